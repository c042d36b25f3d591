"""Rate limits of clients by the generic cell rate algorithm (ITU-T I.371, annex A). It is a token bucket whose state is
one number, the theoretical arrival time of the next request.

The numbers of all clients are in one file of fixed size that every server process maps into memory, so a limit applies
to the whole server.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SETS = 16_384
WAYS = 4
"""Entries that a client may occupy; the table holds SETS x WAYS clients."""
ENTRY = struct.Struct("=Qd")
"""Format of an entry: a hash of the client's name, and its theoretical arrival time in seconds of the monotonic
clock."""
SET_BYTES = WAYS * ENTRY.size
ROUNDING = 1e-6


@dataclass(frozen=True)
class Rate:
    """A rate of ``per_second`` requests in the long run, and ``burst`` (at least 1) at once."""

    per_second: float
    burst: int


class RateLimiter:
    """The table of clients. Every method may be called from any thread of any process."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it if it is missing: 1 MB.

        :raises OSError: if it cannot be opened.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, SETS * SET_BYTES)
        if hasattr(os, "posix_fallocate"):  # no holes: a write to a mapped hole on a full disk kills the process
            os.posix_fallocate(self._file, 0, SETS * SET_BYTES)
        self._table = mmap.mmap(self._file, SETS * SET_BYTES)
        self._lock = threading.Lock()

    def hit(self, client: str, rate: Rate, now: float | None = None) -> float:
        """Count one request.

        :param client: any text; different texts are counted separately.
        :param now: seconds of a clock that all processes share; by default the system's monotonic clock.
        :returns: 0 if the request is within the rate; otherwise it is not counted, and this is the seconds until one
            will be.
        """
        now = time.monotonic() if now is None else now
        digest = int.from_bytes(hashlib.blake2b(client.encode(errors="replace"), digest_size=8).digest(), "big") or 1
        start = digest % SETS * SET_BYTES
        with self._lock:  # a lock on a file belongs to the whole process
            fcntl.lockf(self._file, fcntl.LOCK_EX, SET_BYTES, start)
            try:
                return self._take(start, digest, rate, now)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, SET_BYTES, start)

    def _take(self, start: int, digest: int, rate: Rate, now: float) -> float:
        interval = 1 / rate.per_second
        tolerance = interval * (rate.burst - 1)
        place, expected = self._find(start, digest, now)
        if expected - now > tolerance + interval + ROUNDING:
            expected = now  # impossible on this clock: the file is older than the machine's last boot
        expected = max(expected, now)
        if (wait := expected - now - tolerance) > ROUNDING:
            return wait
        ENTRY.pack_into(self._table, place, digest, expected + interval)
        return 0.0

    def _find(self, start: int, digest: int, now: float) -> tuple[int, float]:
        """Return the position of the client's entry, or of the entry that it replaces: the one with the smallest
        number, which has mostly expired."""
        places = range(start, start + SET_BYTES, ENTRY.size)
        entries = [(place, *ENTRY.unpack_from(self._table, place)) for place in places]
        for place, owner, expected in entries:
            if owner == digest:
                return place, float(expected)
        return min(entries, key=lambda entry: float(entry[2]))[0], now

    def close(self) -> None:
        self._table.close()
        os.close(self._file)
