"""Parsers of JPEG, PNG, GIF and WebP files: sequences of blocks, of which a decoder gets only those needed for the
pixels."""

from __future__ import annotations

import re
import struct
import zlib

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.container import MAX_RUNS, Canvas, Container, check_blocks, check_frames, check_size

# A marker is FF and a code. FF 00 is a byte of the pixels, FF FF is fill, FF D0-D7 divide the pixels of one scan.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8)
# Comments and application data, except APP0 (JFIF) and APP14 (Adobe), which define the colour coding.
_DROPPED = {*range(0xE1, 0xEE), 0xEF, 0xFE}

# Frame headers (table B.1). The first row may be decoded at a fraction of its size: baseline, extended sequential and
# progressive. libjpeg-turbo writes beyond its buffers when it scales a lossless file.
_SCALABLE = (0xC0, 0xC1, 0xC2)
_LOSSLESS = 0xC3
_WHOLE = (_LOSSLESS, 0xC9, 0xCA)  # the others use arithmetic coding
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

# Progressive files have about ten scans. Each costs a pass over the whole image but only a few bytes of the file, so
# thousands would keep a decoder busy for minutes (libjpeg-turbo's djpeg has -maxscans for the same reason).
MAX_SCANS = 100
_ALL = 2**64 - 1


def read_jpeg(data: bytes, limits: PictureLimits) -> Container:
    """Return the file with only the segments needed for its pixels.

    If the file seems to have lost only its end marker, the marker is added.

    :raises EOFError: if the file ends within a segment.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    parts, exif = [data[:2]], b""
    at, scans, frame = 2, 0, 0
    missing: dict[int, int] = {}  # a bit mask per component of the coefficients that are not exact yet
    ended = True
    for blocks in range(len(data)):
        check_blocks(blocks)
        match = _MARKER.search(data, at)
        begin = match.start() if match else len(data)
        pixels = data[at:begin] if scans else b""
        if not match:
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
    # libjpeg-turbo converts no colours of a lossless file, and supports only samples of one size
    kind = (
        "it is a lossless JPEG of YCbCr or of samples of several sizes"
        if frame == _LOSSLESS and len(missing) > 1
        else ""
    )
    return Container("JPEG", b"".join(parts), exif, scalable=frame in _SCALABLE, ended=ended, kind=kind)


def _components(header: bytes, marker: int, limits: PictureLimits) -> list[int]:
    """Read a frame header: check its declarations, and return its components' identifiers."""
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
    """Read a scan header: clear the bits of the coefficients that the scan makes exact."""
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


_SIGNATURE_BYTES = 8
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_GREY, _RGB = 0, 2


def read_png(data: bytes, limits: PictureLimits) -> Container:
    """Return the file with only header, palette, transparency and pixels.

    An animated PNG is reduced to the image that programs without support for animation show. A file that ends within a
    chunk is left cut off; the decoder reports missing pixels.

    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    parts, exif, at = [data[:_SIGNATURE_BYTES]], b"", _SIGNATURE_BYTES
    bits = colour = 0
    for blocks in range(len(data)):
        check_blocks(blocks)
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # length, kind, content, checksum
        if kind == b"CgBI":
            raise InvalidImage("it is a PNG that Xcode has rewritten for iOS (CgBI), which is not supported")
        if kind == b"IHDR" and end <= len(data):
            width, height, bits, colour = struct.unpack_from(">IIBB", data, at + 8)
            check_size(width, height, limits)
        elif kind == b"acTL":  # number of frames, before the pixels (third edition, section 11.3.6)
            check_frames(int.from_bytes(data[at + 8 : at + 12], "big"), limits)
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind == b"tRNS":
            parts.append(_transparency(data[at:end], bits, colour))
        if kind in _NEEDED:
            parts.append(data[at:end])
        at = end
        if at >= len(data) or kind == b"IEND":
            break
    return Container("PNG", b"".join(parts), exif)


def _transparency(chunk: bytes, bits: int, colour: int) -> bytes:
    """Return the chunk with a transparent colour as Pillow compares it: in the 8 bits to which it converts samples.

    Pillow reads the value unconverted, so it finds no colour of 2 or 4 bits, nor of 3 x 16 bits. The latter is matched
    by its upper bytes. Colours that differ from it by less than one level in 255 therefore become transparent too.
    """
    if colour == _GREY and bits in (2, 4) and len(chunk) == 14:
        (value,) = struct.unpack_from(">H", chunk, 8)
        content = struct.pack(">H", value * 255 // (2**bits - 1) & 255)
    elif colour == _RGB and bits == 16 and len(chunk) == 18:
        content = struct.pack(">3H", *(value >> 8 for value in struct.unpack_from(">3H", chunk, 8)))
    else:
        return chunk
    return chunk[:8] + content + struct.pack(">I", zlib.crc32(b"tRNS" + content))


_GIF_HEADER_BYTES = 13
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"
_GRAPHIC_CONTROL = 0xF9
_DESCRIPTOR_BYTES = 10


def read_gif(data: bytes, limits: PictureLimits) -> Container:
    """Return header, colour table, the last graphic control extension (the transparent colour), and the first image.

    The screen is reduced to that image: Pillow would fill the area around it with a colour of its table, browsers show
    nothing. A first image that is cut off is left so; the decoder reports missing pixels.

    :raises EOFError: if the file ends before its first image.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    if len(data) < _GIF_HEADER_BYTES:
        raise EOFError("no header")
    start = at = _GIF_HEADER_BYTES + _table_bytes(data[10])
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
    """Return the canvas of the first image: the screen, enlarged if the image does not fit."""
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    return Canvas(max(screen_width, left + width), max(screen_height, top + height), left, top)


def _after_sub_blocks(data: bytes, at: int, before: int) -> tuple[int, int]:
    """Return the end of the chain of sub-blocks that begins at ``at``, and their number.

    Each sub-block is its length and as many bytes; the last is empty. If the chain is cut off, its end is beyond the
    data.

    :param before: number of earlier sub-blocks in the file.
    :raises InvalidImage: if there are too many.
    """
    count = 1
    while at < len(data) and data[at]:
        at += 1 + data[at]
        count += 1
        if before + count > MAX_RUNS:
            check_blocks(before + count, MAX_RUNS, "sub-blocks")
    return at + 1, count


_WEBP_HEADER_BYTES = 12


def read_webp(data: bytes, limits: PictureLimits) -> Container:
    """Return the file unchanged: libwebp ignores everything that it does not need.

    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    at, frames, exif = _WEBP_HEADER_BYTES, 0, b""
    for blocks in range(len(data)):
        if at + 8 > len(data):
            break
        check_blocks(blocks)
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8X":  # libwebp allocates this canvas when it opens a file: two 24-bit numbers, minus one
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
