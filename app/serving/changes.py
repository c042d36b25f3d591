"""A number in a file that all processes have mapped: it tells each of them that another has changed something.

To read it takes no lock and no system call, so it can be asked before every request.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
from pathlib import Path

log = logging.getLogger(__name__)

NUMBER = struct.Struct("<Q")


class Changes:
    """The number. Where its file cannot be made, it tells of this process alone."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self._own = self._noticed = 0
        try:
            self._map = self._open(path)
        except OSError as error:
            log.warning("%s cannot be used (%s): what other processes register is seen a second later", path, error)
            self._map = mmap.mmap(-1, NUMBER.size)

    def _open(self, path: Path) -> mmap.mmap:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if os.fstat(self._file).st_size < NUMBER.size:
            # with its place on the disk: to write into a mapped hole of a full one would end the process
            os.pwrite(self._file, bytes(NUMBER.size), 0)
        return mmap.mmap(self._file, NUMBER.size)

    def of_others(self) -> int:
        """A number that is another one after every change that another process has told."""
        told: int = NUMBER.unpack_from(self._map)[0]
        return told - self._own + self._noticed

    def tell(self) -> None:
        """Tell the others of a change. One thread at a time."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            (told,) = NUMBER.unpack_from(self._map)
            NUMBER.pack_into(self._map, 0, (told + 1) % 2**63)
            self._own += 1
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def notice(self) -> None:
        """Let the number be another one for this process, which has seen a change that nobody told."""
        self._noticed += 1

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None
