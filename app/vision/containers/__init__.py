"""Picture files, walked over block by block before a decoder sees them.

Pillow reads all metadata before it decodes, and trusts it: comments of 25 MB in a GIF kept it busy for 100 s, and the
tags of a TIFF may each claim the whole file. So the metadata is dropped first. The same walk counts the frames, checks
the size, and refuses what the decoder would get wrong. The pixel data stays as it is, unless the decoder is slow or
wrong with it. EXIF is handed out beside it, because it says which way up the picture is.
"""

from __future__ import annotations

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.blocks import read_gif, read_jpeg, read_png, read_webp
from app.vision.containers.bmp import read_bmp
from app.vision.containers.container import Container, Samples
from app.vision.containers.tiff import read_tiff
from app.vision.sniff import reason_unknown, sniff

__all__ = ["Container", "Samples", "read_container"]

_READERS = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WEBP": read_webp,
    "BMP": read_bmp,
    "TIFF": read_tiff,
}


def read_container(data: bytes, limits: PictureLimits) -> Container:
    """Walk over a picture file.

    :raises InvalidImage: if it is of none of ``FORMATS``, or of a kind that is not supported.
    :raises PictureTooLarge: if its header announces more pixels than are allowed.
    :raises TooManyFrames: if it has more frames or pages than are allowed.
    :raises Exception: of any type, if the file is damaged or cut off.
    """
    read = _READERS.get(sniff(data))
    if read is None:
        raise InvalidImage(reason_unknown(data))
    return read(data, limits)
