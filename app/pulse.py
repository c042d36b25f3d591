"""A process's sign of life, which whoever watches it sees: the time of a file that is nowhere but in memory.

gunicorn's workers give theirs in the same way.
"""

from __future__ import annotations

import os
import time


class Pulse:
    """It is passed on as the file's descriptor.

    :param file: that descriptor; None makes a file, where the system is Linux.
    """

    def __init__(self, file: int | None = None) -> None:
        self._file = os.fdopen(os.memfd_create("dimple-pulse") if file is None else file, "r+b", buffering=0)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def beat(self) -> None:
        """Give a sign."""
        now = time.monotonic()
        os.utime(self.fileno(), (now, now))

    def silence(self) -> float:
        """Seconds since the last one."""
        return time.monotonic() - os.fstat(self.fileno()).st_mtime

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
