"""What names a file by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

PIECE = 2**20


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, which is read piece by piece.

    :param algorithm: as :mod:`hashlib` calls it.
    :returns: hexadecimal digits.
    :raises OSError: where it cannot be read.
    """
    made = hashlib.new(algorithm)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            made.update(piece)
    return made.hexdigest()
