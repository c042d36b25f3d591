"""How many frames or pages a picture file has, told from its structure; none is decoded."""

from __future__ import annotations

import struct

from app.errors import TooManyFrames

_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_DIRECTORIES = {b"II*\0": ("<", 4, "IH", 12), b"MM\0*": (">", 4, "IH", 12), b"II+\0": ("<", 8, "QQ", 20)}
"""TIFF and BigTIFF: byte order, place of the first offset, formats of an offset and a count, bytes of an entry."""


def check_frames(data: bytes, most: int) -> None:
    """Refuse a file of more frames than are allowed.

    A file that is damaged has as many as come before the damage; whoever decodes it will say more.

    :param most: 0 allows any number, and looks at nothing.
    :raises TooManyFrames: where there are more.
    """
    if not most:
        return
    if data.startswith(b"GIF8"):
        count = _gif(data, most)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        count = _png(data)
    elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        count = _webp(data, most)
    elif data[:4] in _DIRECTORIES:
        count = _tiff(data, most)
    else:
        return
    if count > most:
        raise TooManyFrames(most)


def _gif(data: bytes, most: int) -> int:
    """Image descriptors (GIF89a, section 20)."""
    at = 13 + _table_bytes(data[10] if len(data) > 10 else 0)
    count = 0
    while at + 10 <= len(data) and count <= most:
        if data[at] == _GIF_IMAGE:
            count += 1
            at += 11 + _table_bytes(data[at + 9])  # the descriptor, its colours, the byte before the pixels
        elif data[at] == _GIF_EXTENSION:
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks: their length, and as many bytes
            at += 1 + data[at]
        at += 1
    return count


def _table_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _png(data: bytes) -> int:
    """The number in the chunk acTL (PNG, third edition, section 11.3.6), which lies before the pixels."""
    at = 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"acTL":
            return int.from_bytes(data[at + 8 : at + 12], "big")
        if kind in (b"IDAT", b"IEND"):
            break
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return 1


def _webp(data: bytes, most: int) -> int:
    """Chunks ANMF (RFC 9649, section 2.7.1.1)."""
    at, count = 12, 0
    while at + 8 <= len(data) and count <= most:
        count += data[at : at + 4] == b"ANMF"
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return count


def _tiff(data: bytes, most: int) -> int:
    """Directories, each with the place of the next (TIFF 6.0, section 2). A ring of them never ends."""
    order, at, formats, entry = _DIRECTORIES[data[:4]]
    offset, number = (struct.Struct(order + one) for one in formats)
    count = 0
    try:
        (place,) = offset.unpack_from(data, at if entry == 12 else 8)
        while place and count <= most:
            (entries,) = number.unpack_from(data, place)
            count += 1
            (place,) = offset.unpack_from(data, place + number.size + entries * entry)
    except struct.error:
        pass
    return count
