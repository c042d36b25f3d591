"""GIF (CompuServe, Graphics Interchange Format 89a): everything before the first picture but its transparent colour."""

from __future__ import annotations

from app.vision.essence.limits import check_blocks

_HEADER_BYTES = 13
_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL = 0xF9


def gif_essence(data: bytes) -> bytes:
    """Header, colour table, the last graphic control extension, and all from the first picture on.

    :raises EOFError: where the file ends before its first picture.
    :raises ValueError: where there are too many blocks before it.
    """
    if len(data) < _HEADER_BYTES:
        raise EOFError("no header")
    flags = data[10]
    start = at = _HEADER_BYTES + (3 << (1 + (flags & 7)) if flags & 0x80 else 0)
    control, blocks = b"", 0
    while at + 1 < len(data) and data[at] == _EXTENSION:
        end, count = _after_sub_blocks(data, at + 2)
        if data[at + 1] == _GRAPHIC_CONTROL:
            control = data[at:end]
        blocks += count
        check_blocks(blocks)
        at = end
    if at >= len(data) or data[at] != _IMAGE:
        raise EOFError("no picture")
    return data[:start] + control + data[at:]


def _after_sub_blocks(data: bytes, at: int) -> tuple[int, int]:
    """Where the chain of sub-blocks that begins at ``at`` ends, and how many there are.

    Each sub-block is its length and as many bytes; the last is empty.
    """
    count = 1
    while at < len(data) and data[at]:
        at += 1 + data[at]
        count += 1
    if at >= len(data):
        raise EOFError("cut off")
    return at + 1, count
