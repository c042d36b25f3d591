"""Which pictures training sees, which it chooses by, and which are kept for the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

PartName = Literal["train", "validation", "test"]

PARTS: tuple[PartName, ...] = ("train", "validation", "test")
VALIDATION_SHARE = 0.1


def part_of(name: str, test_share: float) -> PartName:
    """The part that a picture belongs to: a function of its file's name alone, so the same on every machine, and the
    same for a picture whatever others are added or removed.

    :param name: the file's name without its folders.
    :param test_share: share of the pictures, 0-1, that is kept for the end; a tenth of all is for validation.
    """
    encoded = name.encode("utf-8", "surrogateescape")  # whatever bytes a file system has in its names
    position = int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "validation" if position < test_share + VALIDATION_SHARE else "train"


def split(names: Sequence[str], groups: Iterable[Sequence[int]], test_share: float) -> tuple[PartName, ...]:
    """The part of every picture. Near-identical ones stay together, or training would have seen what it is measured
    on: all pictures of a group take the part of the one whose file's name comes first in the alphabet.

    :param names: of the pictures, with or without folders.
    :param groups: positions in ``names``; those of one group are near-identical.
    """
    bases = [PurePosixPath(name).name for name in names]
    parts = [part_of(base, test_share) for base in bases]
    for group in groups:
        together = part_of(min(bases[member] for member in group), test_share)
        for member in group:
            parts[member] = together
    return tuple(parts)
