"""Log lines in gunicorn's style, as JSON, or in Multi Model Server's style, on the console or in rotated files."""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import re
import socket
import sys
import time
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.telemetry.request_id import current

FIELDS = "fields"
"""Attribute of a record for fields beside its message, passed as ``extra={FIELDS: {…}}``."""


class JsonFormatter(logging.Formatter):
    """A formatter of JSON lines: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``,
    ``request_id`` during a request, the record's own fields, and ``exception`` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. JSON escapes line ends, quotes and control characters. All non-ASCII characters are escaped
        too, because some readers treat more than ``\\n`` as the end of a line."""
        document: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if request_id := current.get():
            document["request_id"] = request_id
        document.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def rfc3339(seconds: float) -> str:
    """Return a timestamp as RFC 3339, in UTC with milliseconds: ``2024-04-23T11:03:33.657Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


MAX_BYTES = 100 * 2**20
BACKUPS = 5
LOOK_SECONDS = 0.1
LOOKS = 100
"""Number of checks for a full or rotated file that a process makes while it writes a file's maximum size."""


class SharedFile(WatchedFileHandler):
    """A handler that appends lines to a rotated file. A full file becomes ``NAME.1``, which becomes ``NAME.2`` …; the
    oldest is deleted.

    All processes append to the same file. Each checks from time to time if another has rotated it, because a check
    before each line would cost more than the write. Until then its lines go to ``NAME.1``, complete.

    :param max_bytes: maximum length of a file.
    :param backups: number of rotated files to keep.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, backups: int = BACKUPS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._max_bytes, self._kept = max_bytes, backups
        self._look_again, self._until_look = 0.0, 0
        super().__init__(path, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Failures such as a full disk are reported on standard error, and fail no request."""
        try:
            line = (self.format(record) + self.terminator).encode()
            if self._until_look <= 0 or time.monotonic() >= self._look_again or not self.stream:
                self._reopen_or_rotate()
            assert self.stream
            self._until_look -= len(line)
            while line:
                line = line[os.write(self.stream.fileno(), line) :]
        except RecursionError:  # as in logging's own handlers
            raise
        except Exception:
            self.handleError(record)

    def _reopen_or_rotate(self) -> None:
        """Open another file if this one is full, or has been rotated by another process."""
        self.reopenIfNeeded()
        if self.stream is None:
            self.stream = self._open()
        if os.fstat(self.stream.fileno()).st_size >= self._max_bytes:
            self._rotate()
            self.reopenIfNeeded()
        self._look_again = time.monotonic() + LOOK_SECONDS
        self._until_look = self._max_bytes // LOOKS

    def _rotate(self) -> None:
        path = Path(self.baseFilename)
        folder = os.open(path.parent, os.O_RDONLY)  # lock the folder: no lock file among the logs
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_size < self._max_bytes:
                return  # another process has rotated it, and may not have opened the next file
            for number in range(self._kept - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.exists():
                    os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
            os.replace(path, path.with_name(f"{path.name}.1"))
        finally:
            os.close(folder)


METRICS = logging.getLogger("dimple.metrics")
"""Metrics from handlers, one per line: ``Name.Unit:value|#dimensions|#hostname:H,seconds[,request]``."""
HOST_METRICS = logging.getLogger("dimple.host_metrics")
"""Counts of responses, and metrics of the machine."""
GUNICORN_STYLE = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
MMS_STYLE = "%(asctime)s [%(levelname)-5s] %(threadName)s %(name)s - %(message)s"
MMS_LINE = "%(asctime)s - %(message)s"
MMS_NAMES = {"app.handlers.log_relay": "com.amazonaws.ml.mms.wlm.WorkerLifeCycle"}
"""Logger names that scripts search for in MMS's logs."""
MMS_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
METRIC_TAIL = re.compile(r"\|#hostname:([^,|]*),(\d+)(?:,(.*))?$")


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


class PlainFormatter(logging.Formatter):
    """A formatter of text lines that prevents log injection by clients and handlers: blanks follow each line end, and
    other control characters are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the message; the traceback of an error follows unchanged."""
        plain = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.message)
        record.message = plain.replace("\n", "\n    ")
        return super().formatMessage(record)


class MmsFormatter(PlainFormatter):
    """A formatter of lines that begin as log4j's ``%d{ISO8601}``: ``2024-04-23T11:03:33,657``, local time."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s,%03d"

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with log4j's level names."""
        if record.levelname in MMS_LEVELS or record.name in MMS_NAMES:
            record = logging.makeLogRecord(record.__dict__)
            record.levelname = MMS_LEVELS.get(record.levelname, record.levelname)
            record.name = MMS_NAMES.get(record.name, record.name)
        return super().format(record)


class MetricFormatter(MmsFormatter):
    """A formatter of handler metrics for ``model_metrics.log``."""

    def __init__(self) -> None:
        super().__init__(MMS_LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Add the names of the request and time, which a handler's line omits."""
        record.message = METRIC_TAIL.sub(_named_tail, record.message)
        return super().formatMessage(record)


def _named_tail(match: re.Match[str]) -> str:
    host, seconds, requests = match.groups()
    return f"|#hostname:{host}{f',requestID:{requests}' if requests else ''},timestamp:{seconds}"


def install(settings: Settings) -> None:
    """Send the process's log lines to the configured files; without configured files, change nothing.

    Call it before the workers fork: they share the files.
    """
    # no line includes the source location or the multiprocessing name
    logging._srcfile = None
    logging.logMultiprocessing = False
    name = style_name(settings)
    own = name != "gunicorn"
    if settings.log_file or own:
        style = server_style(name)
        handlers: list[logging.Handler] = [SharedFile(settings.log_file)] if settings.log_file else []
        if settings.log_console or not settings.log_file:
            handlers.append(logging.StreamHandler(sys.stdout))
        _replace(logging.getLogger(), handlers, style)
        logging.getLogger().setLevel(settings.log_level.upper())
        gunicorn = logging.getLogger("gunicorn.error")
        _replace(gunicorn, [], style)
        gunicorn.propagate = True
    if settings.access_log and (own or settings.access_log != "-"):
        file = None if settings.access_log == "-" else SharedFile(Path(settings.access_log))
        access = logging.getLogger("gunicorn.access")
        _replace(access, [file or logging.StreamHandler(sys.stdout)], access_style(name))
        access.propagate = False
    _send(HOST_METRICS, settings.server_metrics_log, MmsFormatter(MMS_LINE))
    if settings.model_metrics_log:
        _send(METRICS, settings.model_metrics_log, MetricFormatter())


def style_name(settings: Settings) -> str:
    """Return the style of this process's lines: ``gunicorn``, ``json`` or ``mms``. By default, terminals get gunicorn's
    style, everything else gets JSON."""
    if settings.log_style != "auto":
        return settings.log_style
    return "gunicorn" if sys.stderr.isatty() else "json"


def server_style(name: str) -> logging.Formatter:
    """Return the formatter of the server's log.

    :param name: a result of :func:`style_name`.
    """
    if name == "json":
        return JsonFormatter()
    return MmsFormatter(MMS_STYLE) if name == "mms" else PlainFormatter(GUNICORN_STYLE)


def access_style(name: str) -> logging.Formatter:
    """Return the formatter of access lines, whose messages come from :mod:`app.server.gunicorn_logger`."""
    if name == "json":
        return JsonFormatter()
    return MmsFormatter(MMS_LINE) if name == "mms" else logging.Formatter("%(message)s")


def host_metric(name: str, unit: str, value: float | int, when: str) -> None:
    """Log a metric of the machine.

    :param unit: Multi Model Server's name: ``Count``, ``Percent``, ``Megabytes``, ``Gigabytes``.
    :param when: seconds since 1970; ``null`` for counts, which have no date in MMS.
    """
    HOST_METRICS.info("%s.%s:%s|#Level:Host|#hostname:%s,timestamp:%s", name, unit, value, _host_name(), when)


@functools.cache
def _host_name() -> str:
    return socket.gethostname()


def _send(logger: logging.Logger, path: Path | None, style: logging.Formatter) -> None:
    _replace(logger, [SharedFile(path)] if path else [logging.NullHandler()], style)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _replace(logger: logging.Logger, handlers: list[logging.Handler], style: logging.Formatter) -> None:
    for old in list(logger.handlers):
        logger.removeHandler(old)
        if isinstance(old, SharedFile):
            old.close()
    for new in handlers:
        new.setFormatter(style)
        logger.addHandler(new)
