"""How many calls are being computed at this moment, in this process and in its siblings.

Two processes that each believe to be alone, and take all cores, slow each other down: SqueezeNet then answers 20 calls
a second in each instead of 35. So they share a file of one byte a process, mapped into memory: the calls that it is
computing. A process keeps its byte by a lock on it, which the system lets go of when the process ends, however it ends.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROCESSES = 64
"""How many processes have a byte. Those beyond that see only themselves, and are not seen."""
MOST_CALLS = 255


class Company(enum.Enum):
    """Who computes at the same time as a call."""

    NOBODY = enum.auto()
    OTHER_PROCESSES = enum.auto()
    THIS_PROCESS = enum.auto()
    """And others perhaps."""


class InFlight:
    """The calls of one process, beside those of the processes that share its file. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._file: int | None = None
        self._all: mmap.mmap | bytearray = bytearray(PROCESSES)
        self._own = 0

    def share(self, path: Path) -> None:
        """Share a file with other processes from now on, which is made where it is missing. Only the first counts.

        :raises OSError: where the file cannot be used.
        """
        with self._lock:
            if self._file is not None:
                return
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if os.fstat(file).st_size < PROCESSES:  # written, not a hole: mapped, that kills where the disk is full
                    os.pwrite(file, bytes(PROCESSES), 0)
                every = mmap.mmap(file, PROCESSES)
                own = _claim(file, every)
            except BaseException:
                os.close(file)
                raise
            self._file = file  # it stays open: to close it would let go of the lock
            if own is not None:
                every[own] = min(self._calls, MOST_CALLS)
                self._all, self._own = every, own

    @contextmanager
    def counted(self) -> Iterator[Company]:
        """Count a call while it is computed. Gives who else computes."""
        with self._lock:
            if self._calls:
                company = Company.THIS_PROCESS
            else:
                company = Company.OTHER_PROCESSES if any(self._all[:]) else Company.NOBODY
            self._count(1)
        try:
            yield company
        finally:
            with self._lock:
                self._count(-1)

    def _count(self, step: int) -> None:
        self._calls += step
        self._all[self._own] = min(self._calls, MOST_CALLS)


def _claim(file: int, every: mmap.mmap) -> int | None:
    """Take the first free byte, and clear the others that no process has: what was killed left its calls there."""
    own = None
    for number in range(PROCESSES):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:  # another process has it
            continue
        every[number] = 0
        if own is None:
            own = number
        else:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, number)
    return own


IN_FLIGHT = InFlight()
"""This process's own."""
