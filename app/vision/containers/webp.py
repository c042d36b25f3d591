"""WebP (RFC 9649): its canvas, its frames and its EXIF."""

from __future__ import annotations

from app.picture_limits import PictureLimits
from app.vision.containers.container import Container, check_blocks, check_frames, check_size

_HEADER_BYTES = 12


def read_webp(data: bytes, limits: PictureLimits) -> Container:
    """Return the file as it is: libwebp looks at nothing that it does not need.

    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    at, frames, exif = _HEADER_BYTES, 0, b""
    for blocks in range(len(data)):
        if at + 8 > len(data):
            break
        check_blocks(blocks)
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8X":  # libwebp sets this canvas aside as soon as it opens a file: two 24-bit numbers less one
            width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (at + 12, at + 15))
            check_size(width, height, limits)
        elif kind == b"ANMF":
            frames += 1
            check_frames(frames, limits)
        elif kind == b"EXIF":
            exif = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    short = len(data) < 8 + int.from_bytes(data[4:8], "little")
    return Container("WEBP", data, exif, short=short)
