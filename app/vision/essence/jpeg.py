"""JPEG (ITU-T T.81): what its pixels need; no comments, no applications' data, nothing after its end."""

from __future__ import annotations

import re

from app.vision.essence.limits import check_blocks

# A marker is FF and a code. FF 00 is a byte of the pixels, FF FF is fill, FF D0-D7 divide the pixels of one scan.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8)
# Comments and applications' data, but for APP0 (JFIF) and APP14 (Adobe), which say how the colours are coded.
_DROPPED = {*range(0xE1, 0xEE), 0xEF, 0xFE}

# Progressive files have about ten. Each costs a walk over the whole picture and a few bytes of the file, so thousands
# of them would keep a decoder busy for minutes (libjpeg-turbo's djpeg has -maxscans for the same reason).
_MAX_SCANS = 100


def jpeg_essence(data: bytes) -> tuple[bytes, bytes]:
    """The file with the segments that its pixels need, and its first EXIF block.

    A file that is cut off is left so, and the decoder says so.

    :raises ValueError: where there are too many segments or scans.
    """
    kept, exif = [data[:2]], b""
    at, scans = 2, 0
    for blocks in range(len(data)):
        check_blocks(blocks)
        found = _MARKER.search(data, at)
        begin = found.start() if found else len(data)
        if scans:
            kept.append(data[at:begin])  # the scan's pixels
        if not found:
            break
        marker = data[begin + 1]
        end = begin + 2
        if marker == _END:
            kept.append(data[begin:end])
            break
        if marker not in _WITHOUT_LENGTH:
            end += int.from_bytes(data[end : end + 2], "big")
        if marker == _START_OF_SCAN:
            scans += 1
        if marker == _APP1 and not exif and data[begin + 4 : begin + 10] == b"Exif\0\0":
            exif = data[begin + 4 : end]
        if marker not in _DROPPED:
            kept.append(data[begin:end])
        at = end
    if scans > _MAX_SCANS:
        raise ValueError(f"{scans} scans")
    return b"".join(kept), exif
