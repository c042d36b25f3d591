"""What a decoder needs of a picture file, and nothing else.

Pillow reads all metadata before it decodes, and trusts it: comments of 25 MB in a GIF kept it busy for 100 s, and the
tags of a TIFF may each claim the whole file. So the metadata is dropped first, by walking over each format's blocks.
The pixel data stays as it is. EXIF is handed out beside, because it says which way up the picture is.
"""

from __future__ import annotations

from app.vision.essence.gif import gif_essence
from app.vision.essence.jpeg import jpeg_essence
from app.vision.essence.png import png_essence
from app.vision.essence.tiff import tiff_essence


def essence(data: bytes) -> tuple[bytes, bytes]:
    """The file without metadata, and its EXIF block (empty where it has none, and for a TIFF, which is one itself).

    Other formats are returned as they are.

    :raises EOFError: where the file ends within a block.
    :raises ValueError: where its blocks make no sense.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_essence(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return png_essence(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return gif_essence(data), b""
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0")):
        return tiff_essence(data), b""
    return data, b""
