"""Files for the tests, made by Pillow or by hand from the formats' specifications."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

MANY = 100_000_000
QUARTERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (255, 255, 0),
}


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return the bytes of ``image`` as a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def quarters(width: int = 32, height: int = 16) -> Image.Image:
    """Return red, green, blue and yellow in the four corners; wider than high, so that a rotation shows."""
    image = Image.new("RGB", (width, height), QUARTERS["bottom right"])
    image.paste(QUARTERS["top left"], (0, 0, width // 2, height // 2))
    image.paste(QUARTERS["top right"], (width // 2, 0, width, height // 2))
    image.paste(QUARTERS["bottom left"], (0, height // 2, width // 2, height))
    return image


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    """Return the colours near the corners, in reading order."""
    right, bottom = image.width - 3, image.height - 3
    points = ((2, 2), (right, 2), (2, bottom), (right, bottom))
    return [image.getpixel(point) for point in points]  # type: ignore[misc]


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """Return blocks of random colours, so that every part of a file is needed."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(small, np.ones((5, 5, 1), np.uint8)))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, before: bytes = b"") -> bytes:
    """Return a PNG made by hand. ``colour`` is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA; each row begins with
    a 0.
    """
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def exif_orientation(value: int, order: str = "<") -> bytes:
    """Return an EXIF block of one tag."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)


def lossless_jpeg(samples: np.ndarray) -> bytes:
    """Return a grey lossless JPEG (ITU-T T.81, annex H): each sample less its left neighbour, Huffman-coded.

    :param samples: (H, W), 8 bits.
    """
    height, width = samples.shape
    whole = samples.astype(int)
    predicted = np.full_like(whole, 128)
    predicted[1:, 0] = whole[:-1, 0]
    predicted[:, 1:] = whole[:, :-1]
    bits = []
    for difference in (whole - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}")  # nine sizes, in codes of four bits
        if size:
            bits.append(f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    coded = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    table = bytes((0, 0, 0, 0, 9, *[0] * 12, *range(9)))
    frame = struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0)
    scan = bytes((1, 1, 0, 1, 0, 0))  # one component, table 0; the left neighbour predicts
    segments = ((0xC4, table), (0xC3, frame), (0xDA, scan))
    parts = [bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return b"\xff\xd8" + b"".join(parts) + coded + b"\xff\xd9"
