"""Bytes of a picture -> upright RGB pixels, for bytes that anyone on the internet may have sent.

ICC profiles are ignored, as the networks' training pictures were read without them too.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from dataclasses import dataclass

# The six plugins are imported by name so that Pillow never loads the other forty at the first request.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from app.errors import BadInput, EmptyFile, NotAPicture, PictureTooLarge
from app.vision.essence import essence
from app.vision.looks import looks_like
from app.vision.orientation import upright
from app.vision.pixels import to_rgb

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
# JPEG's and GIF's own limit, for all formats: resampling a strip of 1 x 100,000,000 would take 100 GB on the way.
LONGEST_SIDE = 65_535

# Pillow's own limit warns at one size and raises at another; ours (``_check_size``) is asked for every picture instead.
# Set once, at import, because it is a global of Pillow's and pictures are decoded in many threads.
Image.MAX_IMAGE_PIXELS = None

_opening = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """One picture out of a file.

    ``image`` is 8-bit RGB, upright; ``format`` is the file's format, one of ``FORMATS``.
    """

    image: Image.Image
    format: str


def decode(data: bytes, max_pixels: int, enough: int = 0) -> Decoded:
    """Decode one picture: JPEG, PNG, GIF, WebP, BMP or TIFF; of an animation or a multi-page file the first frame.

    :param data: the file.
    :param max_pixels: most pixels (width x height) that the picture may have, judged by its header.
    :param enough: a JPEG may be decoded at a half, a quarter or an eighth of its size, as libjpeg does at little cost,
        as long as neither side gets shorter than this; 0 decodes it whole.
    :returns: the picture, upright by its EXIF, transparent parts laid over white.
    :raises EmptyFile: where there are no bytes.
    :raises PictureTooLarge: before anything is decoded.
    :raises NotAPicture: where the bytes are something else, damaged or cut off; half a picture is never returned.
    """
    if not data:
        raise EmptyFile()
    try:
        _check_webp_canvas(data, max_pixels)
        needed, exif = essence(data)
        image = _open(needed)
        _check_size(image.width, image.height, max_pixels)
        if enough:
            image.draft(None, (enough, enough))
        image.load()
        if image.format == "WEBP":
            exif = image.info.get("exif", b"")
        return Decoded(upright(to_rgb(image), exif), str(image.format))  # TIFFs have been turned by Pillow already
    except BadInput:
        raise
    except Exception as error:  # Pillow raises what its parsers happen to: OSError, struct.error, zlib.error, …
        raise NotAPicture(_reason(data, error)) from error


def _open(data: bytes) -> Image.Image:
    """Read the header. No pixel is decoded yet.

    Pillow warns about damaged tags here, and then reads what it can. To silence it is not safe among threads, hence the
    lock: headers take microseconds. Of a JPEG no tags are left that it could warn about.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return Image.open(io.BytesIO(data), formats=("JPEG",))
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.format == "TIFF":
            image.getexif()  # else the tags are parsed, and warned about, once more while the pixels are loaded
        return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureTooLarge(width, height, max_pixels)
    if max(width, height) > LONGEST_SIDE:
        raise NotAPicture(f"it has {width} x {height} pixels, and no side may be longer than {LONGEST_SIDE:,}")
    if width <= 0 or height <= 0:
        raise NotAPicture(f"it has {width} x {height} pixels")


def _check_webp_canvas(data: bytes, max_pixels: int) -> None:
    """Check the size in an extended WebP's header by hand: libwebp sets the canvas aside as soon as it opens a file.

    The canvas is two 24-bit numbers, each less one, 12 bytes into the VP8X chunk (RFC 9649, section 2.7).
    """
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        _check_size(width, height, max_pixels)


def _reason(data: bytes, error: Exception) -> str:
    """Why ``data`` was refused, for the person who sent it."""
    if isinstance(error, UnidentifiedImageError):
        return looks_like(data)
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower() or _webp_is_short(data):
        return "the file is cut off before its end"
    return "the file is damaged"


def _webp_is_short(data: bytes) -> bool:
    """True for a WebP file of fewer bytes than its RIFF header promises."""
    return data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
