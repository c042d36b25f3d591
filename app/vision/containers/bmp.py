"""A parser of BMP files (Microsoft, bitmap storage; IBM, OS/2 2.0 bitmaps), which rewrites runs and bit fields that
Pillow gets wrong."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.container import MAX_RUNS, Container, check_blocks, check_size

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12
_RAW, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_OS2_HEADER_BYTES = 64
_HEADERS = (_CORE_HEADER_BYTES, 40, 52, 56, _OS2_HEADER_BYTES, 108, 124)
_V4_HEADER_BYTES = 108
_COMPRESSIONS = {3: "Huffman coding", 4: "a JPEG or runs of 24 bits", 5: "a PNG"}
_BITS = {_RAW: (1, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (16, 32), _ALPHA_BITFIELDS: (16, 32)}
_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2
_NIBBLES = [bytes((byte >> 4, byte & 15)) for byte in range(256)]


def read_bmp(data: bytes, limits: PictureLimits) -> Container:
    """Return the file unchanged, or with its runs or bit fields expanded.

    :raises EOFError, struct.error: if the file is cut off.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    (header_bytes,) = struct.unpack_from("<I", data, _FILE_HEADER_BYTES)
    if header_bytes not in _HEADERS:
        raise InvalidImage(f"it is a BMP with a header of {header_bytes} bytes, which is not supported")
    if header_bytes == _CORE_HEADER_BYTES:
        width, height = struct.unpack_from("<HH", data, _FILE_HEADER_BYTES + 4)
        check_size(width, height, limits)
        return Container("BMP", data)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, _FILE_HEADER_BYTES + 4)
    check_size(width, abs(height), limits)
    if (header_bytes == _OS2_HEADER_BYTES and compression == _BITFIELDS) or compression not in _BITS:
        kind = _COMPRESSIONS.get(compression, f"compression {compression}")
        raise InvalidImage(f"it is a BMP that holds {kind}, which is not supported")
    if bits not in _BITS[compression]:
        raise InvalidImage(f"it is a BMP of {bits} bits a pixel with compression {compression}, which is not supported")
    if compression in (_RLE4, _RLE8):
        return Container("BMP", _without_runs(data, header_bytes, width, abs(height), bits))
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS):
        return Container("BMP", _without_fields(data, header_bytes, compression, width, height, bits))
    return Container("BMP", data)


def _without_runs(data: bytes, header_bytes: int, width: int, height: int, bits: int) -> bytes:
    """Rewrite a bitmap of runs with one byte per pixel.

    Pillow does it pixel by pixel in Python, and decodes literal runs of an odd number of 4-bit pixels wrongly.
    """
    (at,) = struct.unpack_from("<I", data, 10)
    (colours,) = struct.unpack_from("<I", data, 46)
    colours = min(colours or 2**bits, 256)
    palette_at = _FILE_HEADER_BYTES + header_bytes
    palette = data[palette_at : palette_at + 4 * colours]
    rows = _written_out(data, at, width, height, bits)
    start = palette_at + len(palette)
    file_header = struct.pack("<2sIII", b"BM", start + len(rows), 0, start)
    header = bytearray(file_header + data[_FILE_HEADER_BYTES:palette_at])
    struct.pack_into("<HIIiiI", header, 28, 8, _RAW, len(rows), 0, 0, len(palette) // 4)
    return bytes(header) + palette + bytes(rows)


def _written_out(data: bytes, at: int, width: int, height: int, bits: int) -> bytearray:
    """Expand runs: pairs of a number of pixels and their colours, or of 0 and an escape.

    :returns: rows of one byte per pixel, padded to four bytes. Pixels outside all runs have the colour 0.
    """
    stride = -(-width // 4) * 4
    rows = bytearray(stride * height)
    longest = [(_unpacked(bytes((value,)), bits) * 255)[:255] for value in range(256)]
    x = y = runs = 0
    while y < height:
        runs += 1
        if runs > MAX_RUNS:
            check_blocks(runs, MAX_RUNS, "runs")
        count, value = _bytes(data, at, 2)
        at += 2
        if count:
            pixels = longest[value]
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
            continue
        elif value == _END_OF_BITMAP:
            break
        elif value == _DELTA:
            right, up = _bytes(data, at, 2)
            x, y, at = x + right, y + up, at + 2
            continue
        else:
            count, length = value, -(-value * bits // 8)
            pixels = _unpacked(_bytes(data, at, length), bits)
            at += length + length % 2
        begin, space = y * stride + x, min(count, width - x)
        if space > 0:
            rows[begin : begin + space] = pixels[:space]
        x += count
    return rows


def _unpacked(packed: bytes, bits: int) -> bytes:
    return packed if bits == 8 else b"".join([_NIBBLES[byte] for byte in packed])


def _bytes(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise EOFError("cut off")
    return data[at : at + count]


def _without_fields(data: bytes, header_bytes: int, compression: int, width: int, height: int, bits: int) -> bytes:
    """Rewrite a bitmap of bit fields with red, green, blue and alpha of 8 bits each.

    Pillow supports only the common fields, and no alpha in 16 bits.
    """
    (at,) = struct.unpack_from("<I", data, 10)
    has_alpha = header_bytes >= 56 or compression == _ALPHA_BITFIELDS
    masks = [*struct.unpack_from("<4I" if has_alpha else "<3I", data, _FILE_HEADER_BYTES + 40), 0][:4]
    if not any(masks):
        masks = [0x7C00, 0x3E0, 0x1F, 0] if bits == 16 else [0xFF0000, 0xFF00, 0xFF, 0]
    stride = -(-width * bits // 32) * 4
    packed = np.frombuffer(_bytes(data, at, stride * abs(height)), f"<u{bits // 8}")
    pixels = packed.reshape(abs(height), -1)[:, :width]
    channels = [_field(pixels, mask) for mask in masks[:3]]
    alpha = _field(pixels, masks[3])
    if not alpha.any():  # the writer did not know of alpha; browsers show such files as opaque
        alpha = np.full_like(alpha, 255)
    rows = np.stack([channels[2], channels[1], channels[0], alpha], axis=2).tobytes()
    start = _FILE_HEADER_BYTES + _V4_HEADER_BYTES
    header = struct.pack("<2sIII", b"BM", start + len(rows), 0, start)
    header += struct.pack("<IiiHHIIiiII", _V4_HEADER_BYTES, width, height, 1, 32, _BITFIELDS, len(rows), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return header.ljust(start, b"\0") + rows


def _field(pixels: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Return one field of every pixel, scaled to 0-255; 0 if there is none."""
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    highest = mask >> shift
    field = (pixels & pixels.dtype.type(mask)) >> pixels.dtype.type(shift)
    scaled: NDArray[Any] = field if highest == 255 else np.rint(field * np.float32(255 / highest))
    return scaled.astype(np.uint8)
