"""TIFF (Adobe, TIFF 6.0; BigTIFF): the tags of the first directory that its pixels need."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Size and samples (256-262, 277, 338, 339), fill order, strips and tiles (273, 278, 279, 284, 322-325), orientation
# (274), fax (292, 293), predictor (317), palette (320), JPEG (347, 512-521) and YCbCr (529-532).
_KEPT = {
    *range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 338, 339, 347,
    *range(512, 522), *range(529, 533),
}  # fmt: skip
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_VALUES = 1_000_000  # a strip for each row, or a tile for each 16 x 16 pixels, needs fewer


@dataclass(frozen=True)
class _Layout:
    """How a directory is written: ``struct`` formats of its offset, its count, and an entry's tag, type and length."""

    offset_at: int
    offset: str
    count: str
    entry: str
    entry_bytes: int


_LAYOUTS = {
    b"II*\0": _Layout(4, "<I", "<H", "<HHI", 12),
    b"MM\0*": _Layout(4, ">I", ">H", ">HHI", 12),
    b"II+\0": _Layout(8, "<Q", "<Q", "<HHQ", 20),
}


def tiff_essence(data: bytes) -> bytes:
    """The same file with a first directory of the needed tags alone, and no second one.

    The directory is written over the old one, which is at least as long, so every offset stays true.

    :raises struct.error: where the file ends within its directory.
    :raises ValueError: where its tags claim more bytes than the file has.
    """
    layout = _LAYOUTS[data[:4]]
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    if start + struct.calcsize(layout.count) > len(data):
        raise EOFError("cut off")
    (count,) = struct.unpack_from(layout.count, data, start)
    first = start + struct.calcsize(layout.count)
    if first + count * layout.entry_bytes > len(data):
        raise EOFError("cut off")
    entries = [data[at : at + layout.entry_bytes] for at in _starts(first, count, layout.entry_bytes)]
    kept = _needed(entries, layout, len(data))

    directory = struct.pack(layout.count, len(kept)) + b"".join(kept) + bytes(struct.calcsize(layout.offset))
    return data[:start] + directory + data[start + len(directory) :]


def _starts(first: int, count: int, step: int) -> range:
    return range(first, first + count * step, step)


def _needed(entries: list[bytes], layout: _Layout, file_bytes: int) -> list[bytes]:
    """The entries of needed tags, each once."""
    kept: dict[int, bytes] = {}
    claimed = 0
    for entry in entries:
        tag, kind, values = struct.unpack_from(layout.entry, entry)
        if tag not in _KEPT or tag in kept:
            continue
        claimed += values * _VALUE_BYTES.get(kind, 1)
        if values > _MAX_VALUES or claimed > file_bytes:
            raise ValueError(f"tag {tag} claims {values} values")
        kept[tag] = entry
    return list(kept.values())
