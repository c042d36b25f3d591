"""What a server process does when nobody asks anything: it gives memory back."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable

PAUSE_SECONDS = 1.0
ARENAS = 2
M_ARENA_MAX = -8
"""Of mallopt(3), with glibc."""


def share_heaps() -> None:
    """Let all threads of this process, and of those that it forks, share few heaps. The C library would give each a
    heap of its own, and each keep what the largest picture took: of a hundred threads, a hundred megabytes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and sys.platform == "linux":
        mallopt(ctypes.c_int(M_ARENA_MAX), ctypes.c_int(ARENAS))


def tidy_when_idle(answered: Callable[[], int], pause: float = PAUSE_SECONDS) -> None:
    """Give the memory that answers have left behind back to the system, whenever a pause follows them.

    Each thread frees what its pictures took into a heap that the C library keeps: a hundred connections at once leave a
    hundred megabytes there. Elsewhere than with glibc nothing is done.

    :param answered: how many requests the process has answered.
    :param pause: seconds without an answer.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def keep_tidy() -> None:
        before, tidy = answered(), True
        while True:
            time.sleep(pause)
            now = answered()
            if now != before:
                before, tidy = now, False
            elif not tidy:
                gc.collect()  # what refers to itself, and holds pictures and tensors
                trim(ctypes.c_size_t(0))
                tidy = True

    threading.Thread(target=keep_tidy, name="idle", daemon=True).start()
