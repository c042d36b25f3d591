"""Mutations of pictures, chunk by chunk, with correct lengths and checksums."""

from __future__ import annotations

import re
import struct
import zlib
from itertools import pairwise
from random import Random

from fuzz.mutations import blind
from fuzz.mutations.values import integer

PNG, RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
TIFFS = (b"II*\0", b"MM\0*", b"II+\0")
PNG_KINDS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT")
WEBP_KINDS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"XMP ")
JPEG_MARKERS = bytes.fromhex("C0 C1 C2 C3 C4 C9 CC D0 D8 D9 DA DB DD E0 E1 E2 EE FE")
JPEG_KINDS = tuple(bytes([0xFF, marker]) for marker in JPEG_MARKERS)

Chunk = tuple[bytes, bytes]
"""A kind and a content."""


def mutate(data: bytes, random: Random) -> bytes:
    """Damage the chunks of a picture, or any bytes if it has none."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    if data.startswith(PNG):
        return PNG + b"".join(_png_chunk(*chunk) for chunk in _mutate_chunks(_png_chunks(data), PNG_KINDS, random))
    if data.startswith(RIFF):
        chunks = _mutate_chunks(_riff_chunks(data), WEBP_KINDS, random)
        body = b"WEBP" + b"".join(kind + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for kind, c in chunks)
        return RIFF + struct.pack("<I", len(body)) + body
    if data.startswith(b"\xff\xd8"):
        segments = _mutate_chunks(_segments(data), JPEG_KINDS, random)
        return b"\xff\xd8" + b"".join(_segment(*segment) for segment in segments)
    if data[:4] in TIFFS:
        return _mutate_tiff(data, random)
    # the structure of GIF and BMP is in their first bytes
    return blind.overwrite_number(data, random.randrange(min(len(data), 80) + 1), random)


def _mutate_chunks(chunks: list[Chunk], kinds: tuple[bytes, ...], random: Random) -> list[Chunk]:
    for _ in range(random.choice((1, 1, 2, 3))):
        if not chunks:
            return chunks
        index = random.randrange(len(chunks))
        chunk = kind, content = chunks[index]
        mutation = random.randrange(6)
        if mutation == 0:
            new = [(kind, _mutate_content(kind, content, random))]
        elif mutation == 1:
            new = [(kind, blind.overwrite_number(content, random.randrange(min(len(content), 32) + 1), random))]
        elif mutation == 2:
            new = [] if random.random() < 0.5 else [chunk] * random.choice((2, 2, 3, 120))
        elif mutation == 3:
            new = [(random.choice(kinds), content)]
        elif mutation == 4:
            new = [chunk, (random.choice(kinds), random.choice((b"", content[:7], bytes(9), _exif(random))))]
        else:
            other = random.randrange(len(chunks))
            new, chunks = [chunks[other]], [*chunks[:other], chunk, *chunks[other + 1 :]]
        chunks = chunks[:index] + new + chunks[index + 1 :]
    return chunks


def _mutate_content(kind: bytes, content: bytes, random: Random) -> bytes:
    """Damage the content of a chunk, after inflating it if it is deflated."""
    if kind == b"IDAT":
        try:
            raw = zlib.decompressobj().decompress(content, 2**20)
        except zlib.error:
            return blind.mutate(content, random)
        return zlib.compress(blind.mutate(raw, random), 1)
    if content[:6] == b"Exif\0\0":
        return b"Exif\0\0" + _mutate_tiff(content[6:], random)
    return blind.mutate(content, random)


def _exif(random: Random) -> bytes:
    """Return an EXIF block with one tag."""
    order, mark = random.choice((("<", b"II*\0"), (">", b"MM\0*")))
    kind, count = random.choice((1, 2, 3, 4, 7, 12, 99)), integer(random) % 2**32
    entry = struct.pack(order + "HHII", 0x0112, kind, count, integer(random) % 2**32)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", random.choice((8, 8, 0, 2**31)), 1) + entry + bytes(4)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_chunks(data: bytes) -> list[Chunk]:
    chunks, offset = [], len(PNG)
    while offset + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        chunks.append((data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]))
        offset += 12 + length
    return chunks


def _riff_chunks(data: bytes) -> list[Chunk]:
    chunks, offset = [], 12
    while offset + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, offset + 4)
        chunks.append((data[offset : offset + 4], data[offset + 8 : offset + 8 + length]))
        offset += 8 + length + length % 2
    return chunks


def _segments(data: bytes) -> list[Chunk]:
    """Return the segments of a JPEG; the pixels are part of the segment before them."""
    starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xcf\xd8-\xfe]", data[2:])]
    segments = [data[2 + begin : 2 + end] for begin, end in pairwise([*starts, len(data) - 2])]
    return [(segment[:2], segment[4:] if segment[1] not in (0xD8, 0xD9) else b"") for segment in segments]


def _segment(kind: bytes, content: bytes) -> bytes:
    if kind[1] in (0xD8, 0xD9) or 0xD0 <= kind[1] <= 0xD7:
        return kind
    if kind[1] == 0xDA:  # the length covers the header of a scan, not the pixels
        return kind + struct.pack(">H", 2 + min(len(content), 1 + 2 * (content[0] if content else 0) + 3)) + content
    return kind + struct.pack(">H", (2 + len(content)) % 2**16) + content


def _mutate_tiff(data: bytes, random: Random) -> bytes:
    """Damage entries of the first directory: tag, type, count or value."""
    order = ">" if data[:2] == b"MM" else "<"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
    except struct.error:
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        entry = start + 2 + 12 * random.randrange(max(1, min(count, 64)))
        if entry + 12 > len(data):
            return blind.mutate(data, random)
        tag, kind, values, value = struct.unpack_from(order + "HHII", data, entry)
        mutation = random.randrange(4)
        if mutation == 0:
            tag = random.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 330, 34665, 274, tag))
        elif mutation == 1:
            kind = random.choice((1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 16, 0, 99))
        elif mutation == 2:
            values = integer(random) % 2**32
        else:
            value = random.choice((integer(random) % 2**32, *range(1, 9), 32773, 32946, 5, 7))
        data = data[:entry] + struct.pack(order + "HHII", tag, kind, values, value) + data[entry + 12 :]
    return data
