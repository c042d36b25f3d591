"""How often each model was asked, by all processes of the server together.

Every process writes into a file of its own, mapped into memory, so that counting takes no lock between processes and no
system call; whoever wants to know adds up the files. They lie in a folder that is the server's own, by the number of
the process that started it, and the next server removes it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

NAME_BYTES = 96
ROW = struct.Struct(f"<{NAME_BYTES}sQQqd")
ROWS = 256
"""Models that are counted; of more, the first ones to be asked."""


@dataclass(frozen=True)
class Count:
    """Of one model: requests that were answered, those of them that failed, requests that are being answered at this
    moment, and the seconds that all answers took together."""

    requests: int = 0
    errors: int = 0
    inside: int = 0
    seconds: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.requests + other.requests,
            self.errors + other.errors,
            self.inside + other.inside,
            self.seconds + other.seconds,
        )


class Counts:
    """The counts of one process, and the sums of all. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._parent = folder
        self._folder = folder / _stamp(os.getppid())
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        self._map: mmap.mmap | None = None

    def enter(self, name: str) -> None:
        """A request has come."""
        self._add(name, Count(inside=1))

    def leave(self, name: str, failed: bool, seconds: float) -> None:
        """It is answered."""
        self._add(name, Count(1, int(failed), -1, seconds))

    def all(self) -> dict[str, Count]:
        """The sums, by the model's name."""
        sums: dict[str, Count] = {}
        for path in self._folder.glob("*.counts"):
            with contextlib.suppress(OSError):
                alive = _is_alive(path.stem)
                for name, count in _read(path.read_bytes()):
                    # a process that was killed answers nothing any more
                    told = count if alive else Count(count.requests, count.errors, 0, count.seconds)
                    sums[name] = sums.get(name, Count()) + told
        return sums

    def _add(self, name: str, more: Count) -> None:
        with self._lock:
            if self._map is None:
                self._map = self._open()
            row = self._rows.get(name)
            if row is None:
                if len(self._rows) >= ROWS:
                    return
                row = self._rows[name] = len(self._rows)
            at = row * ROW.size
            _, requests, errors, inside, seconds = ROW.unpack_from(self._map, at)
            now = Count(requests, errors, inside, seconds) + more
            encoded = name.encode()[:NAME_BYTES]
            ROW.pack_into(self._map, at, encoded, now.requests, now.errors, now.inside, now.seconds)

    def _open(self) -> mmap.mmap:
        """Make this process's file, and remove what earlier servers have left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for other in self._parent.iterdir():
            if other != self._folder and not _is_alive(other.name):
                shutil.rmtree(other, ignore_errors=True)
        path = self._folder / f"{_stamp(os.getpid())}.counts"
        with path.open("w+b") as file:
            file.truncate(ROW.size * ROWS)
            return mmap.mmap(file.fileno(), 0)


def _stamp(process: int) -> str:
    """A process's number and the time of its start, since numbers are given again; in a container, most are small.
    Where the system does not tell, the number alone."""
    try:
        # the second field is the program's name in brackets, with anything in it; the start is the 22nd
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return str(process)
    return f"{process}-{fields[19]}"


def _is_alive(stamp: str) -> bool:
    number = stamp.partition("-")[0]
    return number.isdecimal() and "-" in stamp and _stamp(int(number)) == stamp


def _read(data: bytes) -> list[tuple[str, Count]]:
    rows = (ROW.unpack_from(data, at) for at in range(0, len(data) - ROW.size + 1, ROW.size))
    return [(row[0].rstrip(b"\0").decode(errors="replace"), Count(*row[1:])) for row in rows if row[0].strip(b"\0")]
