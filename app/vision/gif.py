"""The beginning of a GIF file, rid of what nobody looks at (CompuServe, Graphics Interchange Format 89a)."""

from __future__ import annotations

_HEADER_BYTES = 13
_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL = 0xF9


def without_comments(data: bytes) -> bytes:
    """Drop every block before the first picture but the one that names its transparent colour.

    Pillow gathers comments piece by piece, each time copying what it has: 25 MB of comment took it 100 s.

    :param data: a GIF file.
    :raises EOFError: where the file ends before its first picture.
    """
    start = _HEADER_BYTES + _colour_table_bytes(data)
    at, control = start, b""
    while at < len(data) and data[at] == _EXTENSION:
        end = _after_sub_blocks(data, at + 2)
        if data[at + 1] == _GRAPHIC_CONTROL:
            control = data[at:end]
        at = end
    if at >= len(data) or data[at] != _IMAGE:
        raise EOFError("no picture")
    return data[:start] + control + data[at:]


def _colour_table_bytes(data: bytes) -> int:
    if len(data) < _HEADER_BYTES:
        raise EOFError("no header")
    flags = data[10]
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    """Where the chain of sub-blocks that begins at ``at`` ends: each is a length and as many bytes, the last is empty."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    if at >= len(data):
        raise EOFError("cut off")
    return at + 1
