"""Pictures for the tests, made or public domain."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from skimage import data


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def astronaut() -> Image.Image:
    """Return Eileen Collins smiling, a portrait by NASA in the public domain, 512 x 512; scikit-image ships it."""
    return Image.fromarray(data.astronaut())


def face_crop() -> Image.Image:
    """Return the astronaut's face as the smile network's data set has faces: grey, 64 x 64."""
    return astronaut().crop((170, 60, 280, 170)).resize((64, 64)).convert("L")


def plain(width: int = 64, height: int = 48) -> Image.Image:
    """Return a picture with nothing in it."""
    return Image.new("RGB", (width, height), (200, 180, 40))


def png_bomb(width: int = 40_000, height: int = 40_000) -> bytes:
    """Return a tiny PNG file whose header announces a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    parts = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def animation(frames: int = 300) -> bytes:
    """Return a GIF of many frames, none like the next; the first is red."""
    colours = [(255, 0, 0), *[(0, number % 256, 255 - number % 256) for number in range(1, frames)]]
    images = [Image.new("RGB", (300, 300), colour) for colour in colours]
    return encode(images[0], "GIF", save_all=True, append_images=images[1:])


def unreadable() -> dict[str, bytes]:
    """Return files that are refused, each for a reason of its own: too many frames, cut off, a kind or a format that is
    not decoded.
    """
    gif, tiff = encode(plain(), "GIF"), encode(Image.new("RGB", (64, 48)), "TIFF")
    frame = gif[gif.index(b"\x2c\0\0\0\0\x40\0\x30\0") : -1]
    jpeg = encode(plain())
    at = jpeg.index(b"\xff\xc0") + 4
    return {
        "long.gif": gif[:-1] + frame * 1000 + b";",
        "cut.jpg": jpeg[: len(jpeg) * 3 // 4],
        "deep.jpg": jpeg[:at] + b"\x0c" + jpeg[at + 1 :],
        "document.png": b"%PDF-1.7",
        "strip.tif": tiff.replace(b"\x06\x01\x03\0\x01\0\0\0\x02\0", b"\x06\x01\x03\0\x01\0\0\0\x09\0"),
    }


def noise(width: int, height: int) -> bytes:
    """Return a JPEG that does not compress well: about a byte a pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return encode(Image.fromarray(pixels), quality=95)
