"""A log file that several processes write, and that is put aside when it is full."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from logging.handlers import WatchedFileHandler
from pathlib import Path

MAX_BYTES = 100 * 2**20
KEPT = 5
LOOK_SECONDS = 0.1
LOOKS = 100
"""A process looks so many times in what a file may hold whether it is full, or has been put aside."""


class SharedFile(WatchedFileHandler):
    """Appends lines. A full file becomes ``NAME.1``, that ``NAME.2`` …; the oldest goes.

    Every process appends to the same file, and looks now and then whether another has put it aside: before each line
    that would cost more than to write it. The lines until then end in ``NAME.1``, whole.

    :param max_bytes: how long a file may grow.
    :param kept: how many are kept beside the one that is written.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._max_bytes, self._kept = max_bytes, kept
        self._look_again, self._until_look = 0.0, 0
        super().__init__(path, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. What fails (a full disk) is told on standard error and harms no request."""
        try:
            line = (self.format(record) + self.terminator).encode()
            if self._until_look <= 0 or time.monotonic() >= self._look_again or not self.stream:
                self._look()
            assert self.stream
            self._until_look -= len(line)
            while line:
                line = line[os.write(self.stream.fileno(), line) :]
        except RecursionError:  # logging has it so, too
            raise
        except Exception:
            self.handleError(record)

    def _look(self) -> None:
        """Begin another file where this one is full, or is another's now."""
        self.reopenIfNeeded()
        if self.stream is None:
            self.stream = self._open()
        if os.fstat(self.stream.fileno()).st_size >= self._max_bytes:
            self._put_aside()
            self.reopenIfNeeded()
        self._look_again = time.monotonic() + LOOK_SECONDS
        self._until_look = self._max_bytes // LOOKS

    def _put_aside(self) -> None:
        path = Path(self.baseFilename)
        folder = os.open(path.parent, os.O_RDONLY)  # its lock needs no file of its own among the logs
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_size < self._max_bytes:
                return  # another process was faster, and may not have begun the next file
            for number in range(self._kept - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.exists():
                    os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
            os.replace(path, path.with_name(f"{path.name}.1"))
        finally:
            os.close(folder)
