"""How often a client may ask: the generic cell rate algorithm (ITU-T I.371, annex A), which is a token bucket whose
whole state is one number, the theoretical arrival time of the next request.

The numbers of all clients lie in one file of fixed size, which every server process maps into its memory: a limit is
that of the server, not of each of its processes.
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
"""Entries among which a client's is looked for; the table holds SETS x WAYS clients."""
ENTRY = struct.Struct("=Qd")
"""A hash of the client's name, and its theoretical arrival time in seconds of the monotonic clock."""
SET_BYTES = WAYS * ENTRY.size
ROUNDING = 1e-6


@dataclass(frozen=True)
class Rate:
    """``per_second`` requests in the long run, and ``burst`` (at least 1) at once."""

    per_second: float
    burst: int


class RateLimiter:
    """The table. Every method may be called from any thread of any process."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is made where it is missing: 1 MB.

        :raises OSError: where it cannot be.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, SETS * SET_BYTES)
        if hasattr(os, "posix_fallocate"):  # no holes: mapped, they end the process where the disk is full
            os.posix_fallocate(self._file, 0, SETS * SET_BYTES)
        self._table = mmap.mmap(self._file, SETS * SET_BYTES)
        self._lock = threading.Lock()

    def hit(self, client: str, rate: Rate, now: float | None = None) -> float:
        """Count one request.

        :param client: any text; what is counted apart has names that differ.
        :param now: seconds of a clock that all processes share; the system's monotonic one where it is not given.
        :returns: 0 where it is within the rate; else the seconds until one is, and it is not counted.
        """
        now = time.monotonic() if now is None else now
        digest = int.from_bytes(hashlib.blake2b(client.encode(errors="replace"), digest_size=8).digest(), "big") or 1
        start = digest % SETS * SET_BYTES
        with self._lock:  # a lock on a file is the whole process's
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
            expected = now  # no request of this clock made it: the file is older than the machine's last start
        expected = max(expected, now)
        if (wait := expected - now - tolerance) > ROUNDING:
            return wait
        ENTRY.pack_into(self._table, place, digest, expected + interval)
        return 0.0

    def _find(self, start: int, digest: int, now: float) -> tuple[int, float]:
        """Return where the client's entry lies, or that of the client whose place it takes: that with the least number,
        which mostly is one that has long been past."""
        places = range(start, start + SET_BYTES, ENTRY.size)
        entries = [(place, *ENTRY.unpack_from(self._table, place)) for place in places]
        for place, owner, expected in entries:
            if owner == digest:
                return place, float(expected)
        return min(entries, key=lambda entry: float(entry[2]))[0], now

    def close(self) -> None:
        """Let go of the file."""
        self._table.close()
        os.close(self._file)
