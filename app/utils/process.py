"""Child processes that end with their parent or do one job, process groups, and delays before restarts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
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


class Backoff:
    """A backoff of 1, 1, 2, 3, 5, 8 … seconds, as between Multi Model Server's starts of a worker.

    A loop that does nothing else sleeps for :meth:`next_delay` after a failure and calls :meth:`reset` after a success.
    A polling loop calls :meth:`attempt` at every start, and starts again when :meth:`remaining` is 0.

    :param longest: maximum delay in seconds; MMS's by default.
    """

    def __init__(self, longest: float = 1597.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._due = 0.0
        self._delay = self._following = min(1.0, longest)

    def next_delay(self) -> float:
        """Return the next delay in seconds."""
        now = self._delay
        self._delay, self._following = self._following, min(self._delay + self._following, self._longest)
        return now

    def reset(self) -> None:
        """Reset the delay to one second."""
        self._delay = self._following = min(1.0, self._longest)

    def attempt(self) -> None:
        """Record a start of the process. Reset the delay to one second if the start was due for longer than the maximum
        delay, because the previous process was then alive meanwhile."""
        now = self._clock()
        if now - self._due > self._longest:
            self.reset()
        self._due = now + self.next_delay()

    def remaining(self) -> float:
        """Return the seconds until the next attempt is due; 0 if it is."""
        return max(0.0, self._due - self._clock())
