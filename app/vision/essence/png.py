"""PNG (ISO/IEC 15948): the chunks that its pixels need."""

from __future__ import annotations

from app.vision.essence.limits import check_blocks

_SIGNATURE_BYTES = 8
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def png_essence(data: bytes) -> tuple[bytes, bytes]:
    """The file with header, palette, transparency and pixels, and its EXIF block.

    Of an animated PNG this leaves what programs show that know nothing of animation. A file that ends within a chunk is
    left so, and the decoder says whether pixels are missing.

    :raises ValueError: where there are too many chunks.
    """
    kept, exif, at = [data[:_SIGNATURE_BYTES]], b"", _SIGNATURE_BYTES
    for blocks in range(len(data)):
        check_blocks(blocks)
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # length, kind, content, checksum
        if kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind in _KEPT:
            kept.append(data[at:end])
        at = end
        if at >= len(data) or kind == b"IEND":
            break
    return b"".join(kept), exif
