"""JPEG (ITU-T T.81): what its pixels need; no comments, no applications' data, nothing after its end."""

from __future__ import annotations

import re

from app.errors import InvalidImage
from app.picture_limits import PictureLimits
from app.vision.containers.container import Container, check_blocks, check_size

# A marker is FF and a code. FF 00 is a byte of the pixels, FF FF is fill, FF D0-D7 divide the pixels of one scan.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8)
# Comments and applications' data, but for APP0 (JFIF) and APP14 (Adobe), which say how the colours are coded.
_DROPPED = {*range(0xE1, 0xEE), 0xEF, 0xFE}

# Frame headers (table B.1). Those of the first row may be decoded at a fraction of their size: baseline, extended
# sequential and progressive. libjpeg-turbo writes beyond its buffers when it is told to scale a lossless one.
_SCALABLE = (0xC0, 0xC1, 0xC2)
_LOSSLESS = 0xC3
_WHOLE = (_LOSSLESS, 0xC9, 0xCA)  # the others are of arithmetic coding
_UNSUPPORTED = {
    0xC5: "hierarchical coding",
    0xC6: "hierarchical coding",
    0xC7: "hierarchical coding",
    0xCB: "lossless arithmetic coding",
    0xCD: "hierarchical coding",
    0xCE: "hierarchical coding",
    0xCF: "hierarchical coding",
    0xF7: "the coding of JPEG-LS",
}
_FRAMES = frozenset((*_SCALABLE, *_WHOLE, *_UNSUPPORTED))

# Progressive files have about ten. Each costs a walk over the whole picture and a few bytes of the file, so thousands
# of them would keep a decoder busy for minutes (libjpeg-turbo's djpeg has -maxscans for the same reason).
MAX_SCANS = 100
_ALL = 2**64 - 1


def read_jpeg(data: bytes, limits: PictureLimits) -> Container:
    """Return the file with the segments that its pixels need.

    If the file may have lost no more than its end marker, that is added.

    :raises EOFError: if the file ends within a segment.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    parts, exif = [data[:2]], b""
    at, scans, frame = 2, 0, 0
    missing: dict[int, int] = {}  # of each component the coefficients that are not exact yet, a bit for each
    ended = True
    for blocks in range(len(data)):
        check_blocks(blocks)
        found = _MARKER.search(data, at)
        begin = found.start() if found else len(data)
        pixels = data[at:begin] if scans else b""
        if not found:
            ended = not pixels or any(missing.values())
            parts.append(pixels if ended else pixels.rstrip(b"\xff") + b"\xff\xd9")
            break
        parts.append(pixels)
        marker = data[begin + 1]
        end = begin + 2
        if marker == _END:
            parts.append(data[begin:end])
            break
        if marker not in _WITHOUT_LENGTH:
            end += int.from_bytes(data[end : end + 2], "big")
        if end > len(data):
            raise EOFError("cut off")
        if marker in _FRAMES:
            frame = marker
            missing = dict.fromkeys(_components(data[begin:end], marker, limits), _ALL)
        elif marker == _START_OF_SCAN:
            scans += 1
            _take(data[begin:end], missing, frame == _LOSSLESS)
        elif marker == _APP1 and not exif and data[begin + 4 : begin + 10] == b"Exif\0\0":
            exif = data[begin + 4 : end]
        if marker not in _DROPPED:
            parts.append(data[begin:end])
        at = end
    check_blocks(scans, MAX_SCANS, "scans")
    # libjpeg-turbo converts no colours of a lossless file, and takes them of one size only
    kind = (
        "it is a lossless JPEG of YCbCr or of samples of several sizes"
        if frame == _LOSSLESS and len(missing) > 1
        else ""
    )
    return Container("JPEG", b"".join(parts), exif, scalable=frame in _SCALABLE, ended=ended, kind=kind)


def _components(header: bytes, marker: int, limits: PictureLimits) -> list[int]:
    """Read a frame header: check what it announces, and return its components' identifiers."""
    bits, count = header[4], header[9]
    check_size(int.from_bytes(header[7:9], "big"), int.from_bytes(header[5:7], "big"), limits)
    kind = _UNSUPPORTED.get(marker)
    if kind is None and bits != 8:
        kind = f"samples of {bits} bits"
    if kind is None and count not in (1, 3, 4):
        kind = f"{count} components"
    if kind is not None:
        raise InvalidImage(f"it is a JPEG with {kind}, which is not supported")
    return [header[10 + 3 * number] for number in range(count)]


def _take(header: bytes, missing: dict[int, int], lossless: bool) -> None:
    """Read a scan header: strike off the coefficients that are exact once the scan is read."""
    count = header[4]
    first, last, approximation = header[5 + 2 * count : 8 + 2 * count]
    if lossless:
        first, last, approximation = 0, 63, 0
    if approximation & 15 or first > last:
        return
    exact = (1 << (last + 1)) - (1 << first)
    for number in range(count):
        component = header[5 + 2 * number]
        missing[component] = missing.get(component, 0) & ~exact
