"""What a handler's process prints goes to the server's log; lines that begin with ``[METRICS]`` are metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import IO

METRICS = "[METRICS]"
MAX_LINE = 2**16
"""Bytes after which a line is cut: a handler may print without end."""

OnMetric = Callable[[str], None]

log = logging.getLogger(__name__)


def follow(pipe: IO[bytes], level: int, name: str, on_metric: OnMetric) -> threading.Thread:
    """Start a thread that passes on every line until the process, and all that it started, have closed the pipe.

    :param level: with which lines are logged.
    :param name: the thread's name, which the log can show.
    :param on_metric: gets each metric's line, without ``[METRICS]``.
    """
    thread = threading.Thread(target=_pass_on, args=(pipe, level, on_metric), name=name, daemon=True)
    thread.start()
    return thread


def _pass_on(pipe: IO[bytes], level: int, on_metric: OnMetric) -> None:
    with pipe:
        for raw in iter(lambda: pipe.readline(MAX_LINE), b""):
            line = raw.decode(errors="replace").rstrip("\r\n")
            try:
                if line.startswith(METRICS):
                    on_metric(line.removeprefix(METRICS))
                elif line:
                    log.log(level, "%s", line)
            except Exception:  # whatever the server does with a line, the process must be able to print the next
                log.exception("A line of a handler's output could not be passed on")
