"""Memory of the C library's heaps: kept while a process is busy, returned when it is idle."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable

PAUSE_SECONDS = 1.0
ARENAS = 2
KEPT_BYTES = 64 * 2**20
OWN_BYTES = 32 * 2**20
MALLOPT = {"M_ARENA_MAX": (-8, ARENAS), "M_TRIM_THRESHOLD": (-1, KEPT_BYTES), "M_MMAP_THRESHOLD": (-3, OWN_BYTES)}
"""Of mallopt(3), with glibc: the number of each, and what it is set to."""


def tune_malloc() -> None:
    """Let the threads of this process, and of those that it forks, share few heaps, and keep what they free for the
    next request, until :func:`trim_when_idle` gives it back.

    The C library would give each thread a heap of its own, where the largest picture's memory stays: with a hundred
    threads, a hundred megabytes. And it would give what a picture took back to the system at once: to get it again,
    page by page, takes as long as to decode a small one. Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and sys.platform == "linux":
        for number, value in MALLOPT.values():
            mallopt(ctypes.c_int(number), ctypes.c_int(value))


def trim_when_idle(answered: Callable[[], int], pause: float = PAUSE_SECONDS) -> None:
    """Give the memory that answers have left behind back to the system, whenever a pause follows them.

    What requests took stays in the heaps that :func:`tune_malloc` has the C library keep, and what refers to itself,
    and holds pictures, until the collector comes to it: a crowd leaves tens of megabytes. Elsewhere than with glibc
    nothing is done.

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
