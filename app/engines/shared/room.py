"""Memory that a server process and the engine process both have mapped, for the rows of one call at a time.

Through a socket the rows of a picture (600 kB) go in pieces, between which the two processes wake each other: that
takes a millisecond where both were asleep.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from math import prod

import numpy as np

from app.types import FloatArray

FLOAT_BYTES = 4


class Room:
    """Room for float32 rows. Who writes them says so to the other, and waits for the answer."""

    def __init__(self, file: int, size: int) -> None:
        """Map a file, which may be closed then.

        :param size: bytes.
        :raises OSError: where the system does not map it.
        """
        self.size = size
        self._memory = mmap.mmap(file, size)

    def rows(self, count: int, row_shape: Sequence[int]) -> FloatArray:
        """The first so many rows, as they lie in it.

        :raises ValueError: where there is no room for them, or none is meant.
        """
        if count < 1 or count * row_bytes(row_shape) > self.size:
            raise ValueError(f"{count} rows of the shape {tuple(row_shape)} do not fit into {self.size} bytes")
        return np.frombuffer(self._memory, np.float32, count * prod(row_shape)).reshape(count, *row_shape)


def make_file(size: int) -> int:
    """A file of so many bytes that is nowhere but in memory.

    :raises OSError: where the system gives none.
    """
    file = os.memfd_create("dimple-rows")
    os.truncate(file, size)
    return file


def row_bytes(row_shape: Sequence[int]) -> int:
    """Bytes of a row, float32."""
    return FLOAT_BYTES * prod(row_shape)
