"""Limits that this process sets for itself before it runs any of the archive's code. Only root can raise hard limits
again."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
OOM_SCORE = Path("/proc/self/oom_score_adj")
OOM_STEP, OOM_MOST = 500, 1000


def die_with(parent: int) -> None:
    """Make the kernel kill this process when the server's thread that started it ends, for any reason. On systems other
    than Linux, the process ends when it next reads from the server.

    :param parent: process id of the server.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before the call
            os._exit(1)


def contain(limits: Mapping[str, int]) -> None:
    """Set the limits.

    :param limits: the fields of :class:`app.handlers.types.HandlerLimits`; 0 means no limit.
    """
    os.umask(0o077)
    os.nice(limits["nice"])
    _limit(resource.RLIMIT_CORE, 0)
    for kind, name in (
        (resource.RLIMIT_DATA, "memory_bytes"),
        (resource.RLIMIT_NOFILE, "open_files"),
        (resource.RLIMIT_FSIZE, "file_bytes"),
    ):
        if limits[name]:
            _limit(kind, limits[name])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # no privileges from sudo and the like
        _offer_to_oom_killer()


def allow_processor_time(seconds: int) -> None:
    """End this process when all its threads together have used ``seconds`` of processor time from now on."""
    # The limit counts from the start of the process, so it is moved before every batch; a hard limit could not be
    # moved.
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (least, least))


def _offer_to_oom_killer() -> None:
    """Make the kernel choose this process before the server if the machine runs out of memory."""
    with contextlib.suppress(OSError):  # a container may forbid it
        OOM_SCORE.write_text(str(min(OOM_MOST, int(OOM_SCORE.read_text()) + OOM_STEP)))
