"""Which way up a photograph is, as its EXIF says."""

from __future__ import annotations

import struct

from PIL import Image

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12

# What undoes each orientation of the EXIF standard (CIPA DC-008, tag Orientation); 1 needs nothing.
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
    """Turn ``image`` as ``exif`` says; as it is where the EXIF says nothing or is broken."""
    turn = _UPRIGHT.get(orientation(exif))
    return image if turn is None else image.transpose(turn)


def orientation(exif: bytes) -> int:
    """Read the orientation, 1-8, from an EXIF block: a TIFF header and its first directory.

    Anything unreadable is 1, upright. It is read here and not by Pillow because Pillow warns about broken EXIF, and
    Python's means to silence a warning are not safe among threads.
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
