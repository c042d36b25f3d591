"""Memory of the C library's heaps, kept while a process is busy and returned when it is idle."""

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
"""Parameters of mallopt(3) in glibc: the number and value of each."""


def tune_malloc() -> None:
    """Make the threads of this process and its children share few heaps, and keep freed memory for the next request
    until :func:`trim_when_idle` returns it.

    By default the C library gives each thread its own heap, which keeps the largest picture's memory: a hundred
    megabytes for a hundred threads. It would also return a picture's memory to the system at once, and getting it back
    page by page takes as long as decoding a small picture. This does nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and sys.platform == "linux":
        for number, value in MALLOPT.values():
            mallopt(ctypes.c_int(number), ctypes.c_int(value))


def trim_when_idle(answered: Callable[[], int], pause: float = PAUSE_SECONDS) -> None:
    """Return the memory of past requests to the system in every idle period.

    Requests leave memory in the heaps of :func:`tune_malloc`, and reference cycles with pictures until the garbage
    collector runs: a burst of requests leaves tens of megabytes. This does nothing without glibc.

    :param answered: function that returns the number of requests that the process has answered.
    :param pause: seconds without a response after which the process is idle.
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
                gc.collect()  # reference cycles with pictures and tensors
                trim(ctypes.c_size_t(0))
                tidy = True

    threading.Thread(target=keep_tidy, name="idle", daemon=True).start()
