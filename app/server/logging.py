"""Log lines: as gunicorn writes them, as JSON, or as Multi Model Server does, on the console or in rotated files."""

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
"""What a record carries beside its message, as ``extra={FIELDS: {…}}``."""


class JsonFormatter(logging.Formatter):
    """``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``, ``request_id`` where a request is
    being answered, the record's own fields, and ``exception`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. Line ends, quotes and control characters in it are escaped, as JSON has it, and so is all
        that is not ASCII: some readers take more than ``\\n`` for the end of a line."""
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
    """Return a moment as RFC 3339 writes it, in UTC with milliseconds: ``2024-04-23T11:03:33.657Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


MAX_BYTES = 100 * 2**20
KEPT = 5
LOOK_SECONDS = 0.1
LOOKS = 100
"""A process looks so many times in what a file may hold whether it is full, or has been put aside."""


class SharedFile(WatchedFileHandler):
    """Appends lines. A full file becomes ``NAME.1``, that ``NAME.2`` …; the oldest goes.

    Every process appends to the same file, and looks now and then whether another has put it aside: before each line
    that would cost more than to write it. The lines until then end in ``NAME.1``, whole.

    :param max_bytes: how long a file may grow.
    :param kept: how many are kept beside the one that is written.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, backups: int = KEPT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._max_bytes, self._kept = max_bytes, backups
        self._look_again, self._until_look = 0.0, 0
        super().__init__(path, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. What fails (a full disk) is told on standard error and harms no request."""
        try:
            line = (self.format(record) + self.terminator).encode()
            if self._until_look <= 0 or time.monotonic() >= self._look_again or not self.stream:
                self._reopen_or_rotate()
            assert self.stream
            self._until_look -= len(line)
            while line:
                line = line[os.write(self.stream.fileno(), line) :]
        except RecursionError:  # logging has it so, too
            raise
        except Exception:
            self.handleError(record)

    def _reopen_or_rotate(self) -> None:
        """Begin another file where this one is full, or is another's now."""
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
        folder = os.open(path.parent, os.O_RDONLY)  # its lock needs no file of its own among the logs
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_size < self._max_bytes:
                return  # another process was faster, and may not have begun the next file
            for number in range(self._kept - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.exists():
                    os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
            os.replace(path, path.with_name(f"{path.name}.1"))
        finally:
            os.close(folder)


METRICS = logging.getLogger("dimple.metrics")
"""What handlers measure, one metric a line: ``Name.Unit:value|#dimensions|#hostname:H,seconds[,request]``."""
HOST_METRICS = logging.getLogger("dimple.host_metrics")
"""Counts of answers, and what the machine does."""
GUNICORN_STYLE = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
MMS_STYLE = "%(asctime)s [%(levelname)-5s] %(threadName)s %(name)s - %(message)s"
MMS_LINE = "%(asctime)s - %(message)s"
MMS_NAMES = {"app.handlers.log_relay": "com.amazonaws.ml.mms.wlm.WorkerLifeCycle"}
"""Loggers whose names scripts search MMS's logs for."""
MMS_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
METRIC_TAIL = re.compile(r"\|#hostname:([^,|]*),(\d+)(?:,(.*))?$")


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


class PlainFormatter(logging.Formatter):
    """Lines of text. What a client or a handler has said cannot end one and begin another: after a line end there are
    blanks, and other control characters are written as escapes."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Write the message; the trace of an error comes after it, as it is."""
        plain = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.message)
        record.message = plain.replace("\n", "\n    ")
        return super().formatMessage(record)


class MmsFormatter(PlainFormatter):
    """Lines as log4j's ``%d{ISO8601}`` begins them: ``2024-04-23T11:03:33,657``, local time."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s,%03d"

    def format(self, record: logging.LogRecord) -> str:
        """Write a record, with log4j's names of levels."""
        if record.levelname in MMS_LEVELS or record.name in MMS_NAMES:
            record = logging.makeLogRecord(record.__dict__)
            record.levelname = MMS_LEVELS.get(record.levelname, record.levelname)
            record.name = MMS_NAMES.get(record.name, record.name)
        return super().format(record)


class MetricFormatter(MmsFormatter):
    """A handler's metric as it stands in ``model_metrics.log``."""

    def __init__(self) -> None:
        super().__init__(MMS_LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Name the request and the time, which a handler's line gives without names."""
        record.message = METRIC_TAIL.sub(_named_tail, record.message)
        return super().formatMessage(record)


def _named_tail(match: re.Match[str]) -> str:
    host, seconds, requests = match.groups()
    return f"|#hostname:{host}{f',requestID:{requests}' if requests else ''},timestamp:{seconds}"


def install(settings: Settings) -> None:
    """Send the process's log lines where the settings say. Nothing changes where they name no file.

    To be called before the server's processes fork: they share the files.
    """
    # no line says where in the source it comes from, or of which process of multiprocessing
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
    """Return how this process's lines look: ``gunicorn``, ``json`` or ``mms``. People read terminals, programs all
    else."""
    if settings.log_style != "auto":
        return settings.log_style
    return "gunicorn" if sys.stderr.isatty() else "json"


def server_style(name: str) -> logging.Formatter:
    """Return how the lines of the server's log look.

    :param name: as :func:`style_name` gives it.
    """
    if name == "json":
        return JsonFormatter()
    return MmsFormatter(MMS_STYLE) if name == "mms" else PlainFormatter(GUNICORN_STYLE)


def access_style(name: str) -> logging.Formatter:
    """Return how the lines of the requests that were answered look, whose message :mod:`app.server.gunicorn_logger`
    makes."""
    if name == "json":
        return JsonFormatter()
    return MmsFormatter(MMS_LINE) if name == "mms" else logging.Formatter("%(message)s")


def host_metric(name: str, unit: str, value: float | int, when: str) -> None:
    """Log a metric of the machine.

    :param unit: as Multi Model Server calls it: ``Count``, ``Percent``, ``Megabytes``, ``Gigabytes``.
    :param when: seconds since 1970; ``null`` for counts, which MMS does not date.
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
