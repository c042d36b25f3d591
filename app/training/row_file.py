"""A ``.npy`` file that is written row by row, so that an array larger than the memory can be made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from app.types import FloatArray
from app.utils.files import replacing

_BLOCK = 256


class RowFile:
    """Rows of float32, all of one shape, appended until ``close``.

    :param most: how many rows there may be; space for all of them is taken with the first one.
    :raises OSError: from ``append`` and ``close``, where the disk is full or cannot be written.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._count = 0
        self._rows: FloatArray = np.empty((0,), np.float32)

    def append(self, row: FloatArray) -> None:
        if not self._count:
            self._rows = _create(self._path, (self._most, *row.shape))
        self._rows[self._count] = row
        self._count += 1

    def close(self) -> None:
        """Cut the file to the rows that came: at least one."""
        if self._count == self._most:
            return
        with replacing(self._path) as beside:
            short = _create(beside, (self._count, *self._rows.shape[1:]))
            for start in range(0, self._count, _BLOCK):
                end = min(start + _BLOCK, self._count)
                short[start:end] = self._rows[start:end]


def _create(path: Path, shape: tuple[int, ...]) -> FloatArray:
    rows: FloatArray = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:  # a full disk is an error now; later it would kill the process by SIGBUS
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return rows
