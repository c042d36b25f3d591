"""The result of parsing an image file, and the limits of the parsers."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import InvalidImage, PictureTooLarge, TooManyFrames
from app.settings import PictureLimits

# A 32 MB file of 8 KB blocks has 4,000 of them; parsing 100,000 takes about 0.05 s.
MAX_BLOCKS = 100_000
# GIF's pixels come in sub-blocks of at most 255 bytes, RLE bitmaps in runs of at most 255 pixels.
MAX_RUNS = 1_000_000
# JPEG's and GIF's own limit, for all formats: resampling a strip of 1 x 100,000,000 would need 100 GB for its
# intermediate image.
LONGEST_SIDE = 65_535


@dataclass(frozen=True)
class Samples:
    """The conversions that a decoder leaves to its caller: the largest value of a 16-bit sample, whether the largest
    value is black, and whether the byte order is wrong."""

    white: int = 2**16 - 1
    inverted: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Canvas:
    """The size of an image, and the position in it of the file's pixels, all in pixels."""

    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True)
class Container:
    """An image file, prepared for its decoder.

    format: one of :data:`app.vision.sniff.FORMATS`.
    data: the file without metadata; for a GIF only the first frame.
    exif: the EXIF block, empty if there is none. A TIFF's directory itself contains the orientation.
    canvas: the image's whole size, if ``data`` may contain only a part of it.
    samples: conversions of the samples that remain.
    scalable: whether it is a JPEG that may be decoded at a fraction of its size.
    ended: False for a JPEG that lacks its end marker.
    short: whether the file ends before pixels that it refers to.
    kind: half a sentence on its samples, in case the decoder does not support them.
    """

    format: str
    data: bytes
    exif: bytes = b""
    canvas: Canvas | None = None
    samples: Samples = Samples()
    scalable: bool = False
    ended: bool = True
    short: bool = False
    kind: str = ""


def check_blocks(count: int, most: int = MAX_BLOCKS, what: str = "blocks") -> None:
    """Refuse a file of too many blocks.

    :raises InvalidImage: if ``count`` exceeds ``most``.
    """
    if count > most:
        raise InvalidImage(f"it has more than {most:,} {what}, the most that are read")


def check_frames(count: int, limits: PictureLimits) -> None:
    """Refuse a file of more frames or pages than allowed.

    :raises TooManyFrames: if there are more; ``limits.frames`` 0 allows any number.
    """
    if limits.frames and count > limits.frames:
        raise TooManyFrames(limits.frames)


def check_size(width: int, height: int, limits: PictureLimits) -> None:
    """Refuse an image of too many pixels, or of none.

    :raises PictureTooLarge: if it has more than ``limits.pixels``.
    :raises InvalidImage: if a side is longer than ``LONGEST_SIDE``, or 0.
    """
    if width * height > limits.pixels:
        raise PictureTooLarge(width, height, limits.pixels)
    if max(width, height) > LONGEST_SIDE:
        raise InvalidImage(f"it has {width} x {height} pixels, and no side may be longer than {LONGEST_SIDE:,}")
    if width <= 0 or height <= 0:
        raise InvalidImage(f"it has {width} x {height} pixels")
