"""A process that is to end with the one that started it, however that ends."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of ``linux/prctl.h``."""


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends (prctl(2)). Not told is who has none any more at
    this moment. Elsewhere than on Linux nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
