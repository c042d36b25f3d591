"""Image file formats, parsed block by block before a decoder sees them.

Pillow reads all metadata before it decodes, and trusts it: comments of 25 MB in a GIF kept it busy for 100 s, and the
tags of a TIFF may each claim the whole file. So the metadata is removed first. The same pass counts the frames, checks
the size, and refuses files that the decoder would get wrong. The pixel data is unchanged, unless the decoder is slow or
wrong with it. EXIF is returned separately because it contains the image's orientation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.blocks import read_gif, read_jpeg, read_png, read_webp
from app.vision.containers.bmp import read_bmp
from app.vision.containers.container import Container, Samples
from app.vision.containers.heif import read_heif
from app.vision.containers.tiff import read_tiff
from app.vision.sniff import reason_unknown, sniff

__all__ = ["HAS_HEIC", "Container", "Samples", "read_container"]

HAS_HEIC = find_spec("pi_heif") is not None
"""Whether the decoder of HEIC is installed (``requirements-heic.txt``)."""
_READERS: dict[str, Callable[[bytes, PictureLimits], Container]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WEBP": read_webp,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "AVIF": partial(read_heif, "AVIF"),
}
if HAS_HEIC:
    _READERS["HEIC"] = partial(read_heif, "HEIC")


def read_container(data: bytes, limits: PictureLimits) -> Container:
    """Parse an image file.

    :raises InvalidImage: if its format is not in ``FORMATS``, or its kind is not supported.
    :raises PictureTooLarge: if its header declares more pixels than allowed.
    :raises TooManyFrames: if it has more frames or pages than allowed.
    :raises Exception: of any type, if the file is damaged or cut off.
    """
    read = _READERS.get(sniff(data))
    if read is None:
        raise InvalidImage(reason_unknown(data))
    return read(data, limits)
