"""A relay of handler processes' output to the server's log; lines that begin with ``[METRICS]`` are metrics.

A handler may print without end. Long lines are therefore cut, and lines beyond the log's rate are dropped and counted.
Lines are read no faster than the server can afford, so only the handler itself has to wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import IO

METRICS = "[METRICS]"
MAX_LINE = 2**16
"""Bytes after which a line is cut."""
LINE_COST = 200
"""Bytes added to the length of a line, for its time and name and some microseconds of the server's time."""
READ = (16 * 2**20, 16 * 2**20)
"""Bytes read per second, and at once; like the other limits, for standard output and error each."""
LOGGED = (128 * 2**10, 4 * 2**20)
"""Bytes logged per second, and at once."""
MEASURED = (2**20, 8 * 2**20)
"""Bytes of metrics relayed per second, and at once: a busy model prints many."""
NAP_SECONDS = 0.02

OnMetric = Callable[[str], None]

log = logging.getLogger(__name__)


class TokenBucket:
    """A token bucket: ``at_once`` bytes immediately, and ``per_second`` bytes each second after that."""

    def __init__(self, per_second: int, at_once: int) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._left = float(at_once)
        self._refusing = False
        self._seen = time.monotonic()

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if they are available. After a refusal, all calls fail until a second's bytes are
        available."""
        self._grow()
        self._refusing = self._left < (self._per_second if self._refusing else size)
        if not self._refusing:
            self._left -= size
        return not self._refusing

    def wait_for(self, size: int) -> None:
        """Take ``size`` bytes, sleeping until they are available. Short sleeps are skipped, as they cost time too."""
        self._grow()
        self._left -= size
        if (seconds := -self._left / self._per_second) > NAP_SECONDS:
            time.sleep(seconds)

    def _grow(self) -> None:
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._seen) * self._per_second)
        self._seen = now


def follow(pipe: IO[bytes], level: int, name: str, on_metric: OnMetric) -> threading.Thread:
    """Start a thread that relays all lines until the process and its descendants have closed the pipe.

    :param name: name of the thread, which the log can show.
    :param on_metric: called with the line of each metric, without ``[METRICS]``.
    """
    follower = _Follower(level, on_metric)
    thread = threading.Thread(target=follower.pass_on, args=(pipe,), name=name, daemon=True)
    thread.start()
    return thread


class _Follower:
    def __init__(self, level: int, on_metric: OnMetric) -> None:
        self._level = level
        self._on_metric = on_metric
        self._read, self._logged, self._measured = TokenBucket(*READ), TokenBucket(*LOGGED), TokenBucket(*MEASURED)
        self._lost_lines = self._lost_bytes = 0

    def pass_on(self, pipe: IO[bytes]) -> None:
        with pipe:
            for raw in iter(lambda: pipe.readline(MAX_LINE), b""):
                self._read.wait_for(len(raw) + LINE_COST)
                try:
                    self._line(raw)
                except Exception:  # whatever fails, the process must be able to print its next line
                    log.exception("A line of a handler's output could not be passed on")
        self._tell_lost()

    def _line(self, raw: bytes) -> None:
        is_metric = raw.startswith(METRICS.encode())
        if not raw.strip(b"\r\n"):
            return
        if not (self._measured if is_metric else self._logged).take(len(raw) + LINE_COST):
            self._lost_lines += 1
            self._lost_bytes += len(raw)
            return
        line = raw.decode(errors="replace").rstrip("\r\n")
        if is_metric:
            self._on_metric(line.removeprefix(METRICS))
        else:
            self._tell_lost()
            log.log(self._level, "%s", line)

    def _tell_lost(self) -> None:
        if self._lost_lines:
            log.warning(
                "%d lines (%d bytes) of the handler's output are left out here: they are more than a log can take",
                *(self._lost_lines, self._lost_bytes),
            )
        self._lost_lines = self._lost_bytes = 0
