"""Processes that end with their parent, or do one piece of work."""

from __future__ import annotations

import ctypes
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
"""Of ``linux/prctl.h``."""


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends (prctl(2)). Not told is who has none any more at
    this moment. Elsewhere than on Linux nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


ROOT = Path(__file__).resolve().parents[2]
REFUSED = 3
"""Exit status of a child whose order cannot be carried out."""


def run_job(work: Callable[..., object]) -> int:
    """Do the work that the order on the standard input asks for, and print its outcome or what is wrong.

    :param work: called with the order's parts.
    :returns: the exit status: 0, or REFUSED.
    """
    try:
        outcome = work(*pickle.load(sys.stdin.buffer))
    except Exception as error:  # what converts networks raises everything there is
        print(error if isinstance(error, DimpleError) else reason_of(error), file=sys.stderr)
        return REFUSED
    if outcome is not None:
        print(outcome)
    return 0


def run_module(
    module: str, order: Any, seconds: float | None = None, quiet: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run a module of ours with the pickle of an order.

    :param seconds: after which it is killed; None waits.
    :param quiet: whether its standard error is kept, like its standard output, rather than shown.
    :raises subprocess.TimeoutExpired: where it took longer.
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
