"""Safe reading of untrusted HDF5 files: only arrays of numbers stored in the file itself.

HDF5 can do more: a dataset may be bytes of any other file (external storage), consist of parts of other files (virtual
datasets), be the target of a link into another file, or claim terabytes that were never written. None of these holds
weights. See the HDF5 User's Guide, chapters Groups (links) and Datasets (storage properties).

HDF5's own C library loops forever on a global heap, which stores texts of variable length, with an object of length 0
(tested with 2.0.0). So heaps are checked first, by the HDF5 File Format Specification 3.0, section III.E.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError

RATIO, FREE_BYTES = 100, 64 * 2**20
"""Limits of the arrays' size in bytes: for each byte of the file, and for any file. Trained weights hardly shrink."""
FILTERS = {1, 2, 3}
"""HDF5's numbers of deflate, shuffle and fletcher32. The other filters are rare, some are plugins that HDF5 loads, and
scale-offset has overflows (CVE-2025-2308)."""
NUMBERS = "biuf"
"""NumPy's kinds of booleans, integers and floats."""


SIGNATURE = b"\x89HDF\r\n\x1a\n"
LENGTHS = {0: 13, 1: 13, 2: 9, 3: 9}
"""Offset of the superblock's sizes of offsets and lengths, by the superblock's version."""
HEAP = b"GCOL\x01\0\0\0"
HEAP_HEADER = OBJECT_HEADER = 16


def check_file(path: Path) -> None:
    """Refuse a file on which HDF5 would hang.

    :raises OSError: if the file cannot be read.
    :raises ModelFormatError: if it is no HDF5 file, is of a kind that Keras does not write, or would hang HDF5.
    """
    if not path.stat().st_size:
        raise ModelFormatError("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        check_content(content)


def check_content(content: bytes | mmap.mmap) -> None:
    """Refuse the content of a file on which HDF5 would hang.

    :raises ModelFormatError: as :func:`check_file`.
    """
    if content[:8] != SIGNATURE:
        raise ModelFormatError("it does not begin as HDF5 files do")
    at = LENGTHS.get(content[8]) if len(content) > 16 else None
    if at is None or content[at : at + 2] != b"\x08\x08":
        raise ModelFormatError("its HDF5 superblock is none that Keras writes")
    for begin in _heaps(content):
        _check_heap(content, begin)


def _heaps(content: bytes | mmap.mmap) -> Iterator[int]:
    at = content.find(HEAP)
    while at >= 0:
        yield at
        at = content.find(HEAP, at + 1)


def _check_heap(content: bytes | mmap.mmap, begin: int) -> None:
    """Check a global heap: objects, each with its number and length, up to the free space, whose number is 0."""
    if begin + HEAP_HEADER > len(content):
        return
    (size,) = struct.unpack_from("<Q", content, begin + len(HEAP))
    end, at = begin + size, begin + HEAP_HEADER
    if end > len(content):
        raise ModelFormatError("a heap of its texts ends beyond its end")
    while end - at >= OBJECT_HEADER:
        number, length = struct.unpack_from("<H6xQ", content, at)
        needs = OBJECT_HEADER + -(-length // 8) * 8 if number else length
        if not OBJECT_HEADER <= needs <= end - at:
            raise ModelFormatError("a heap of its texts is damaged")
        at += needs


class Arrays:
    """A reader of an open file's arrays, limited by the file's size, ``file_bytes``."""

    def __init__(self, file_bytes: int) -> None:
        self._most = max(FREE_BYTES, RATIO * file_bytes)
        self._taken = 0

    def take(self, group: Any, name: str) -> NDArray[Any]:
        """Read a dataset.

        :raises ModelFormatError: if there is none, or it is not an array of numbers in this file.
        """
        import h5py

        dataset = member(group, name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise ModelFormatError(f"its {name} is not an array")
        if dataset.is_virtual or dataset.external:
            raise ModelFormatError(f"its {name} keeps its values in other files; save it into one")
        if dataset.dtype.kind not in NUMBERS:
            raise ModelFormatError(f"its {name} is of the type {dataset.dtype}; weights are numbers")
        if strange := _filters(dataset) - FILTERS:
            raise ModelFormatError(
                f"its {name} is packed by the HDF5 filter {min(strange)}; pack it with gzip or not at all"
            )
        self._count(name, dataset)
        return np.asarray(dataset)

    def _count(self, name: str, dataset: Any) -> None:
        """Count the memory that reading needs; a chunk is unpacked whole, however little of it belongs to the array."""
        values = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
        self._taken += values * dataset.dtype.itemsize
        if self._taken > self._most:
            raise ModelFormatError(
                f"its arrays, with {name} of shape {dataset.shape}, would need {self._taken:,} bytes; "
                f"at most {self._most:,} can be meant by a file of its size"
            )


def _filters(dataset: Any) -> set[int]:
    plan = dataset.id.get_create_plist()
    return {int(plan.get_filter(number)[0]) for number in range(plan.get_nfilters())}


def member(group: Any, path: str) -> Any:
    """Return the member at a path below a group, in this file.

    :raises ModelFormatError: if there is none, or a link leads out of the file.
    """
    import h5py

    for part in path.split("/"):
        if part in ("", "."):
            continue
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise ModelFormatError(f"it has no {path}")
        if not isinstance(link, h5py.HardLink):
            raise ModelFormatError(f"its {path} is a link to {getattr(link, 'path', '')!r}; save it without links")
        group = group[part]
    return group
