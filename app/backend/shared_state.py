"""Numbers in memory that all processes of a server have mapped: the registry's version, the count of active requests of
each model, and the backend's heartbeat.

The memory belongs to an anonymous file. gunicorn's master creates it before it forks, and passes it to the backend
process. Reading a number takes no lock and no system call.
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
"""Rows of counters. The backend never gives two existing registrations the same row."""
PROCESSES = 128
"""Columns of counters. Each process writes its own; a process beyond the limit sees and counts only its own
requests."""
VERSION, VERSION_AT = struct.Struct("=Q"), 0
BEAT, BEAT_AT = struct.Struct("=d"), VERSION.size
HEADER = 64
COUNTER_BYTES = 2


class SharedState:
    """The shared numbers. Every method may be called from any thread of any process.

    :param file: file descriptor from :attr:`fileno` of another process's object; None creates a file.
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
        """Return the registry's version. It differs after every change."""
        number: int = VERSION.unpack_from(self._map, VERSION_AT)[0]
        return number

    def next_version(self) -> None:
        """Increase the version. Only the backend does this, one thread at a time."""
        VERSION.pack_into(self._map, VERSION_AT, self.version + 1)

    def beat(self) -> None:
        """Record a heartbeat of the backend."""
        BEAT.pack_into(self._map, BEAT_AT, time.monotonic())

    def silence(self) -> float:
        """Return the seconds since the last heartbeat."""
        last: float = BEAT.unpack_from(self._map, BEAT_AT)[0]
        return time.monotonic() - last

    def enter(self, generation: int, limit: int) -> bool:
        """Count a request as active unless the limit over all processes is reached, and return whether it was counted.

        :param generation: the model's registration; :meth:`leave` must follow if this returns True.
        :param limit: maximum number of active requests.
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
        """Count a request as no longer active."""
        with self._lock:
            self._counters[generation % MODELS * PROCESSES + self._own_column()] -= 1

    def inside(self, generation: int) -> int:
        """Return the number of a model's active requests in all processes."""
        row = generation % MODELS
        return sum(self._counters[row * PROCESSES : (row + 1) * PROCESSES])

    def close(self) -> None:
        """Close the file. The memory stays mapped as long as this object exists."""
        os.close(self._file)

    def _own_column(self) -> int:
        """Return this process's column. The first request claims it."""
        if self._owner != os.getpid():  # inherited from the master, which counts no requests
            self._owner, self._column = os.getpid(), self._claim()
        if self._column is None:
            self._counters = memoryview(bytearray(MODELS * PROCESSES * COUNTER_BYTES)).cast("H")
            self._column = 0
        return self._column

    def _claim(self) -> int | None:
        """Claim and clear the first free column; a killed process leaves its counts there.

        A process owns a column while it holds the lock on the byte of that number. The lock ends with the process.
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
    """Set the backend's address for this process and its future children.

    :param address: address of a Unix socket, as :meth:`socket.socket.getsockname` returns it.
    """
    global _shared
    _shared = (address, state)


def backend_process() -> tuple[bytes, SharedState] | None:
    """Return the address and the shared numbers of the backend process, or None if this process is its own backend."""
    return _shared
