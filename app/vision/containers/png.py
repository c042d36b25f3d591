"""PNG (ISO/IEC 15948): the chunks that its pixels need."""

from __future__ import annotations

import struct
import zlib

from app.errors import InvalidImage
from app.picture_limits import PictureLimits
from app.vision.containers.container import Container, check_blocks, check_frames, check_size

_SIGNATURE_BYTES = 8
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_GREY, _RGB = 0, 2


def read_png(data: bytes, limits: PictureLimits) -> Container:
    """Return the file with header, palette, transparency and pixels.

    Of an animated PNG this leaves what programs show that know nothing of animation. A file that ends within a chunk is
    left so, and the decoder says whether pixels are missing.

    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    parts, exif, at = [data[:_SIGNATURE_BYTES]], b"", _SIGNATURE_BYTES
    bits = colour = 0
    for blocks in range(len(data)):
        check_blocks(blocks)
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # length, kind, content, checksum
        if kind == b"CgBI":
            raise InvalidImage("it is a PNG that Xcode has rewritten for iOS (CgBI), which is not supported")
        if kind == b"IHDR" and end <= len(data):
            width, height, bits, colour = struct.unpack_from(">IIBB", data, at + 8)
            check_size(width, height, limits)
        elif kind == b"acTL":  # before the pixels: how many frames there are (third edition, section 11.3.6)
            check_frames(int.from_bytes(data[at + 8 : at + 12], "big"), limits)
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind == b"tRNS":
            parts.append(_transparency(data[at:end], bits, colour))
        if kind in _NEEDED:
            parts.append(data[at:end])
        at = end
        if at >= len(data) or kind == b"IEND":
            break
    return Container("PNG", b"".join(parts), exif)


def _transparency(chunk: bytes, bits: int, colour: int) -> bytes:
    """Return the chunk with a transparent colour as Pillow looks for it: in the 8 bits to which it brings samples.

    It reads it as it is written, so it finds none of 2 or 4 bits, nor one of 3 x 16. The latter is found by its upper
    bytes, which makes colours transparent, too, that differ from it by less than one level in 255.
    """
    if colour == _GREY and bits in (2, 4) and len(chunk) == 14:
        (value,) = struct.unpack_from(">H", chunk, 8)
        content = struct.pack(">H", value * 255 // (2**bits - 1) & 255)
    elif colour == _RGB and bits == 16 and len(chunk) == 18:
        content = struct.pack(">3H", *(value >> 8 for value in struct.unpack_from(">3H", chunk, 8)))
    else:
        return chunk
    return chunk[:8] + content + struct.pack(">I", zlib.crc32(b"tRNS" + content))
