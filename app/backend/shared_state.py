"""Numbers that all processes of a server have mapped: the registry's version, the requests inside each model, and the
backend's heartbeat.

The memory belongs to a file that is in no file system. gunicorn's master makes it before it forks, and hands it to the
backend process. Reading a number takes no lock and no system call.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time

MODELS = 1024
"""Rows of counters. The backend gives no two registrations that exist at the same time the same row."""
PROCESSES = 128
"""Columns of counters. Each process writes its own; a process beyond that sees and counts only its own requests."""
VERSION, VERSION_AT = struct.Struct("=Q"), 0
BEAT, BEAT_AT = struct.Struct("=d"), VERSION.size
HEADER = 64
COUNTER_BYTES = 2


class SharedState:
    """The numbers. Every method may be called from any thread of any process.

    :param file: descriptor of a file that :attr:`fileno` of another process's object gave; None makes one.
    """

    def __init__(self, file: int | None = None) -> None:
        size = HEADER + MODELS * PROCESSES * COUNTER_BYTES
        if file is None:
            file = _memory_file()
            os.truncate(file, size)
        self._file = file
        self._map = mmap.mmap(file, size)
        self._counters = memoryview(self._map)[HEADER:].cast("H")
        self._lock = threading.Lock()
        self._column: int | None = None
        self._owner = 0

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file

    @property
    def version(self) -> int:
        """Return the registry's version: another number after every change."""
        number: int = VERSION.unpack_from(self._map, VERSION_AT)[0]
        return number

    def next_version(self) -> None:
        """Increase the version. Only the backend does this, one thread at a time."""
        VERSION.pack_into(self._map, VERSION_AT, self.version + 1)

    def beat(self) -> None:
        """Note that the backend is alive."""
        BEAT.pack_into(self._map, BEAT_AT, time.monotonic())

    def silence(self) -> float:
        """Return the seconds since the last heartbeat."""
        last: float = BEAT.unpack_from(self._map, BEAT_AT)[0]
        return time.monotonic() - last

    def enter(self, generation: int, limit: int) -> bool:
        """Count a request as inside a model, unless as many are as may be in all processes together.

        :param generation: the model's registration; :meth:`leave` must follow if this returns True.
        :param limit: most requests that may be inside.
        """
        row = generation % MODELS
        with self._lock:
            own = self._own_column()
            counters = self._counters[row * PROCESSES : (row + 1) * PROCESSES]
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, PROCESSES + row)
            try:
                if sum(counters) >= limit:
                    return False
                counters[own] += 1
                return True
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, PROCESSES + row)

    def leave(self, generation: int) -> None:
        """Count a request as no longer inside."""
        with self._lock:
            self._counters[generation % MODELS * PROCESSES + self._own_column()] -= 1

    def inside(self, generation: int) -> int:
        """Return how many requests are inside a model, in all processes together."""
        row = generation % MODELS
        return sum(self._counters[row * PROCESSES : (row + 1) * PROCESSES])

    def close(self) -> None:
        """Close the file. The memory stays mapped as long as this object exists."""
        os.close(self._file)

    def _own_column(self) -> int:
        """Return this process's column, which is claimed at the first request."""
        if self._owner != os.getpid():  # inherited from the master, which counts nothing
            self._owner, self._column = os.getpid(), self._claim()
        if self._column is None:
            self._counters = memoryview(bytearray(MODELS * PROCESSES * COUNTER_BYTES)).cast("H")
            self._column = 0
        return self._column

    def _claim(self) -> int | None:
        """Claim the first column that no process has, and clear it: a killed process left its requests there.

        A process has a column as long as it holds the lock on the byte of that number, which ends with the process.
        """
        for number in range(PROCESSES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                continue
            for row in range(MODELS):
                self._counters[row * PROCESSES + number] = 0
            return number
        return None


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dimple-state")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_shared: tuple[bytes, SharedState] | None = None


def set_backend(address: bytes, state: SharedState) -> None:
    """Tell this process, and those that it forks, where the backend process listens.

    :param address: of a Unix socket, as :meth:`socket.socket.getsockname` gives it.
    """
    global _shared
    _shared = (address, state)


def backend_process() -> tuple[bytes, SharedState] | None:
    """Return the address and the shared numbers of the backend process; None if this process is its own backend."""
    return _shared
