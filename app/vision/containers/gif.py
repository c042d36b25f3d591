"""GIF (CompuServe, Graphics Interchange Format 89a): its first picture."""

from __future__ import annotations

import struct

from app.picture_limits import PictureLimits
from app.vision.containers.container import MAX_RUNS, Canvas, Container, check_blocks, check_frames, check_size

_HEADER_BYTES = 13
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"
_GRAPHIC_CONTROL = 0xF9
_DESCRIPTOR_BYTES = 10


def read_gif(data: bytes, limits: PictureLimits) -> Container:
    """Return header, colour table, the last graphic control extension (the transparent colour), and the first picture.

    The screen is shrunk to that picture: around it Pillow would show a colour of its table, browsers show nothing. A
    first picture that is cut off is left so, and the decoder says whether pixels are missing.

    :raises EOFError: if the file ends before its first picture.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    if len(data) < _HEADER_BYTES:
        raise EOFError("no header")
    start = at = _HEADER_BYTES + _table_bytes(data[10])
    control, picture = b"", b""
    frames = blocks = runs = 0
    while at + 1 < len(data) and data[at] in (_EXTENSION, _IMAGE):
        begin = at
        if is_image := data[at] == _IMAGE:
            frames += 1
            check_frames(frames, limits)
            if at + _DESCRIPTOR_BYTES >= len(data):
                break
            at += _DESCRIPTOR_BYTES + _table_bytes(data[at + 9]) + 1  # the last byte is the code size
        else:
            at += 2
        end, count = _after_sub_blocks(data, at, runs)
        if is_image:
            runs += count
            if not picture:
                canvas = _canvas(data, begin)
                check_size(canvas.width, canvas.height, limits)
                width, height = struct.unpack_from("<HH", data, begin + 5)
                check_size(width, height, limits)
                header = data[:6] + struct.pack("<HH", width, height) + data[10:start]
                picture = data[begin : begin + 1] + struct.pack("<HHHH", 0, 0, width, height) + data[begin + 9 : end]
        else:
            blocks += count
            check_blocks(blocks)
            if data[begin + 1] == _GRAPHIC_CONTROL and not picture:
                control = data[begin:end]
        at = end
    if not picture:
        raise EOFError("no picture")
    return Container("GIF", header + control + picture + _TRAILER, canvas=canvas)


def _table_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _canvas(data: bytes, at: int) -> Canvas:
    """Return the canvas of the first picture: the screen, enlarged if the picture does not fit into it."""
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    return Canvas(max(screen_width, left + width), max(screen_height, top + height), left, top)


def _after_sub_blocks(data: bytes, at: int, before: int) -> tuple[int, int]:
    """Return the end of the chain of sub-blocks that begins at ``at``, and their number.

    Each sub-block is its length and as many bytes; the last is empty. The end is beyond the data if they are cut off.

    :param before: how many the file had before.
    :raises InvalidImage: if there are too many.
    """
    count = 1
    while at < len(data) and data[at]:
        at += 1 + data[at]
        count += 1
        if before + count > MAX_RUNS:
            check_blocks(before + count, MAX_RUNS, "sub-blocks")
    return at + 1, count
