"""Decoding of image files to upright RGB pixels, safe for files from anyone on the internet.

ICC profiles are ignored, as they were for the networks' training images.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from app.errors import BadInput, EmptyFile, InvalidImage
from app.settings import PictureLimits
from app.types import FloatArray
from app.utils.dispatch import about_to_block
from app.vision.containers import HAS_HEIC, Container, Samples, read_container
from app.vision.containers.container import check_size
from app.vision.sniff import reason_damaged, sniff

log = logging.getLogger(__name__)


def to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    """Convert a loaded image of any mode to RGB; transparent parts become white.

    :raises InvalidImage: if floats are outside 0-1, since their white is unknown.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, samples).convert("RGB")
    if image.mode == "F":
        return _from_floats(image, samples).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _from_16_bits(image: Image.Image, samples: Samples) -> Image.Image:
    """Convert 16-bit grey to 8-bit grey, rounded; Pillow's own conversion clips everything above 255 to white.

    12-bit TIFFs have this mode too. A PNG may declare one grey value transparent (chunk tRNS).
    """
    values = np.asarray(image).astype(np.float32)
    grey = np.rint(values * (255 / samples.white)).clip(0, 255).astype(np.uint8)
    if samples.inverted:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _from_floats(image: Image.Image, samples: Samples) -> Image.Image:
    """Convert samples of 0-1, the only convention for floats, to 0-255."""
    values: FloatArray = np.asarray(image, dtype=np.float32)
    if samples.swapped:
        values = values.byteswap()
    if not (values.min() >= 0 and values.max() <= 1):
        raise InvalidImage("its samples are floating-point numbers outside 0-1, so its white is not known")
    grey = np.rint(values * 255).astype(np.uint8)
    return Image.fromarray(255 - grey if samples.inverted else grey)


_ORIENTATION_TAG = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12

# Transposition that corrects each orientation of the EXIF standard (CIPA DC-008, tag Orientation); 1 needs none.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, exif: bytes) -> Image.Image:
    """Rotate or flip ``image`` by its EXIF orientation; return it unchanged if the EXIF has none or is broken."""
    turn = _UPRIGHT.get(orientation(exif))
    return image if turn is None else image.transpose(turn)


def orientation(exif: bytes) -> int:
    """Read the orientation, 1-8, from an EXIF block: a TIFF header and its first directory.

    Anything unreadable gives 1, upright. Pillow is not used because it warns about broken EXIF, and Python's means to
    silence a warning are not thread-safe.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for index in range(count):
            offset = directory + 2 + index * _ENTRY_BYTES
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, offset)
            if tag == _ORIENTATION_TAG:
                return int(value) if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


# The plugins are imported by name so that Pillow never loads the other forty at the first request.


SHORT_PIXELS = 2**17
"""Pixels that are decoded within a few milliseconds."""
NO_END = "The JPEG file lacks its end marker (EOI); all of its pixels are there."

# Pillow's globals are set once, at import, because images are decoded in many threads. Pillow's pixel limit warns at
# one size and raises at another; ours is checked for every image instead. Pillow's own reader of uncompressed TIFFs
# decodes several kinds wrongly (16 bits plane by plane, YCbCr); libtiff reads them like compressed ones.
Image.MAX_IMAGE_PIXELS = None
TiffImagePlugin.READ_LIBTIFF = True
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the server's own threads already keep every core busy
if HAS_HEIC:
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
_PLUGINS = {"HEIC": "HEIF"}
"""Pillow's names of formats that differ from ours."""

_opening = threading.Lock()
_END = b"\xff\xd9"
_NOT_PIXELS = (b"\xaa" * 64, b"\x55" * 64)


@dataclass(frozen=True)
class DecodedPicture:
    """An image decoded from a file.

    ``image`` is 8-bit RGB, upright. ``size`` is its width and height in the file, of which a scaled decoding is a
    fraction. ``format`` is the file's format, one of :data:`app.vision.sniff.FORMATS`. ``note`` is a sentence for the
    sender if the file has an invisible fault, else empty.
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    note: str = ""


def decode(data: bytes, limits: PictureLimits, enough: int = 0) -> DecodedPicture:
    """Decode an image: JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF; of an animation or a multi-page file the first frame.

    :param limits: maximum pixels and frames, checked before anything is decoded.
    :param enough: a JPEG may be decoded at a half, a quarter or an eighth of its size, which libjpeg does at little
        cost, if no side becomes shorter than this; 0 decodes it at full size.
    :returns: the image, upright by its EXIF, with transparent parts over white.
    :raises EmptyFile: if there are no bytes.
    :raises PictureTooLarge: if it has too many pixels.
    :raises TooManyFrames: if it has too many frames or pages.
    :raises InvalidImage: if the file has another format, or is damaged or cut off; a partial image is never returned.
    """
    if not data:
        raise EmptyFile()
    container = None
    try:
        container = read_container(data, limits)
        enough = enough if container.scalable else 0
        image, full = _load(container.data, container.format, limits, enough)
        if not container.ended:
            _check_whole(image, container, limits, enough)
        rgb = to_rgb(image, container.samples)
        if (canvas := container.canvas) and rgb.size != (canvas.width, canvas.height):
            paper = Image.new("RGB", (canvas.width, canvas.height), "white")
            paper.paste(rgb, (canvas.left, canvas.top))
            rgb = paper
        # Pillow reports the orientation that an AVIF's container states as EXIF
        exif = image.info.get("exif", b"") if container.format == "AVIF" else container.exif
        turned = upright(rgb, exif)
        size = turned.size
        if image.size != full:
            size = full[::-1] if orientation(exif) >= 5 else full
        return DecodedPicture(turned, size, container.format, "" if container.ended else NO_END)
    except BadInput:
        raise
    except Exception as error:  # parsers raise many types: OSError, struct.error, OverflowError, …
        log.info("a %s file of %d bytes was refused: %s: %s", sniff(data), len(data), type(error).__name__, error)
        raise InvalidImage(_reason(data, container, error)) from error


def _load(data: bytes, format: str, limits: PictureLimits, enough: int) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a file of a known format, and return the image with its size in the file. Pillow rotates TIFFs upright."""
    image = _open(data, format)
    check_size(image.width, image.height, limits)
    if image.width * image.height > SHORT_PIXELS:
        about_to_block()
    full = image.size
    if enough:
        image.draft(None, (enough, enough))
        image.load()
        return image, full
    image.load()
    return image, image.size


def _open(data: bytes, format: str) -> Image.Image:
    """Read the header, without decoding pixels.

    Pillow warns about damaged tags here, and then reads what it can. Silencing a warning is not thread-safe, hence the
    lock: headers take microseconds. A JPEG has no tags left that could cause warnings.
    """
    if format == "JPEG":
        return Image.open(io.BytesIO(data), formats=(format,))
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=(_PLUGINS.get(format, format),))
        if format == "TIFF":
            image.getexif()  # otherwise loading parses the tags, and warns about them, again
        return image


def _check_whole(image: Image.Image, container: Container, limits: PictureLimits, enough: int) -> None:
    """Check that a JPEG without its end marker has lost nothing else.

    libjpeg invents missing pixels. If the pixels do not depend on the bytes that follow the file's last byte, none is
    missing.

    :raises EOFError: if pixels are missing.
    """
    for other in _NOT_PIXELS:
        try:
            longer, _size = _load(container.data.removesuffix(_END) + other + _END, "JPEG", limits, enough)
        except OSError:
            raise EOFError("cut off") from None
        if longer.tobytes() != image.tobytes():
            raise EOFError("cut off")


def _reason(data: bytes, container: Container | None, error: Exception) -> str:
    """Return why a file is refused, for its sender."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, (EOFError, struct.error, OverflowError)) or "truncated" in str(error):
        return "the file is cut off before its end"
    if container is not None and container.short:
        return "the file is cut off before its end"
    unknown = isinstance(error, UnidentifiedImageError)
    if container is not None and container.kind and (unknown or container.format == "JPEG"):
        return f"{container.kind}, a kind that is not supported"
    return reason_damaged(data) if unknown else "the file is damaged"
