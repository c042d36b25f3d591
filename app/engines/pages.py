"""Memory that a mapped file takes, given back."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

DONT_NEED = 4
"""``MADV_DONTNEED`` of madvise(2), on Linux."""
READ_ONLY = "r--"


def release(path: Path) -> None:
    """Give the pages back that this process has read of a mapped file; what is read again comes from the file again.

    OpenVINO reads a network's weights once, puts them where its kernels want them, and keeps the file mapped. Only what
    is mapped to be read is given back, and only on Linux: elsewhere nothing happens.
    """
    name = os.fspath(path.resolve())
    with contextlib.suppress(OSError, AttributeError), open("/proc/self/maps") as maps:
        advise = ctypes.CDLL(None).madvise
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)  # addresses, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[5] == name and fields[1].startswith(READ_ONLY):
                begin, end = (int(address, 16) for address in fields[0].split("-"))
                advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)
