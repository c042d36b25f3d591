"""Child processes that end with their parent or do one job, and process groups."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import DimpleError
from app.utils.error_text import reason_of

PR_SET_PDEATHSIG = 1
"""Option of prctl(2) in ``linux/prctl.h``."""


def die_with_parent() -> None:
    """Request SIGTERM from the kernel when the parent process ends (prctl(2)). An earlier end of the parent goes
    unnoticed. This does nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_group(group: int) -> None:
    """Kill all processes of a group; nothing happens if it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


ROOT = Path(__file__).resolve().parents[2]
REFUSED = 3
"""Exit status of a child whose job failed."""


def run_job(work: Callable[..., object]) -> int:
    """Run the job on the standard input, and print its result or an error.

    :param work: function that is called with the job's parts.
    :returns: the exit status: 0, or REFUSED.
    """
    try:
        outcome = work(*pickle.load(sys.stdin.buffer))
    except Exception as error:  # converters raise any exception
        print(error if isinstance(error, DimpleError) else reason_of(error), file=sys.stderr)
        return REFUSED
    if outcome is not None:
        print(outcome)
    return 0


def run_module(
    module: str, order: Any, seconds: float | None = None, quiet: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run one of our modules with a pickled job.

    :param seconds: timeout after which it is killed; None waits without a limit.
    :param quiet: whether its standard error is captured, like its standard output, rather than displayed.
    :raises subprocess.TimeoutExpired: if the timeout is exceeded.
    """
    return subprocess.run(
        [sys.executable, "-m", module],
        input=pickle.dumps(order),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        cwd=ROOT,
        timeout=seconds,
        check=False,
    )
