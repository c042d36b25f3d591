"""Damage to pictures, chunk by chunk, with their lengths and checksums made right again."""

from __future__ import annotations

import re
import struct
import zlib
from random import Random

from fuzz.mutations import blind
from fuzz.mutations.values import integer

PNG, RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
TIFFS = (b"II*\0", b"MM\0*", b"II+\0")
PNG_KINDS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT")
WEBP_KINDS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"XMP ")
JPEG_MARKERS = (
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC4,
    0xC9,
    0xCC,
    0xD0,
    0xD8,
    0xD9,
    0xDA,
    0xDB,
    0xDD,
    0xE0,
    0xE1,
    0xE2,
    0xEE,
    0xFE,
)

Chunk = tuple[bytes, bytes]
"""What it is, and its content."""


def mutate(data: bytes, random: Random) -> bytes:
    """Change a picture's chunks; of what has none, any bytes."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    if data.startswith(PNG):
        return PNG + b"".join(_png_chunk(*one) for one in _edit(_png_chunks(data), PNG_KINDS, random))
    if data.startswith(RIFF):
        chunks = _edit(_riff_chunks(data), WEBP_KINDS, random)
        body = b"WEBP" + b"".join(kind + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for kind, c in chunks)
        return RIFF + struct.pack("<I", len(body)) + body
    if data.startswith(b"\xff\xd8"):
        kinds = tuple(bytes([0xFF, marker]) for marker in JPEG_MARKERS)
        return b"\xff\xd8" + b"".join(_segment(*one) for one in _edit(_segments(data), kinds, random))
    if data[:4] in TIFFS:
        return _tiff(data, random)
    # GIF's and BMP's structure is in their first bytes
    return blind.number_at(data, random.randrange(min(len(data), 80) + 1), random)


def _edit(chunks: list[Chunk], kinds: tuple[bytes, ...], random: Random) -> list[Chunk]:
    for _ in range(random.choice((1, 1, 2, 3))):
        if not chunks:
            return chunks
        at = random.randrange(len(chunks))
        kind, content = chunks[at]
        how = random.randrange(6)
        if how == 0:
            new = [(kind, _content(kind, content, random))]
        elif how == 1:
            new = [(kind, blind.number_at(content, random.randrange(min(len(content), 32) + 1), random))]
        elif how == 2:
            new = [] if random.random() < 0.5 else [chunks[at]] * random.choice((2, 2, 3, 120))
        elif how == 3:
            new = [(random.choice(kinds), content)]
        elif how == 4:
            new = [chunks[at], (random.choice(kinds), random.choice((b"", content[:7], bytes(9), _exif(random))))]
        else:
            other = random.randrange(len(chunks))
            new, chunks = [chunks[other]], [*chunks[:other], chunks[at], *chunks[other + 1 :]]
        chunks = chunks[:at] + new + chunks[at + 1 :]
    return chunks


def _content(kind: bytes, content: bytes, random: Random) -> bytes:
    """Change a chunk's content; what is deflated in it is inflated first."""
    if kind == b"IDAT":
        try:
            raw = zlib.decompressobj().decompress(content, 2**20)
        except zlib.error:
            return blind.mutate(content, random)
        return zlib.compress(blind.mutate(raw, random), 1)
    if content[:6] == b"Exif\0\0":
        return b"Exif\0\0" + _tiff(content[6:], random)
    return blind.mutate(content, random)


def _exif(random: Random) -> bytes:
    """An EXIF block with one tag."""
    order, mark = random.choice((("<", b"II*\0"), (">", b"MM\0*")))
    kind, count = random.choice((1, 2, 3, 4, 7, 12, 99)), integer(random) % 2**32
    entry = struct.pack(order + "HHII", 0x0112, kind, count, integer(random) % 2**32)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", random.choice((8, 8, 0, 2**31)), 1) + entry + bytes(4)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_chunks(data: bytes) -> list[Chunk]:
    chunks, at = [], len(PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _riff_chunks(data: bytes) -> list[Chunk]:
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def _segments(data: bytes) -> list[Chunk]:
    """A JPEG's segments; the pixels belong to the marker before them."""
    starts = [found.start() for found in re.finditer(rb"\xff[\xc0-\xcf\xd8-\xfe]", data[2:])]
    ends = [*starts[1:], len(data) - 2][: len(starts)]
    found = [data[2 + begin : 2 + end] for begin, end in zip(starts, ends, strict=True)]
    return [(one[:2], one[4:] if one[1] not in (0xD8, 0xD9) else b"") for one in found]


def _segment(kind: bytes, content: bytes) -> bytes:
    if kind[1] in (0xD8, 0xD9) or 0xD0 <= kind[1] <= 0xD7:
        return kind
    if kind[1] == 0xDA:  # the header of a scan is short; its pixels follow
        return kind + struct.pack(">H", 2 + min(len(content), 1 + 2 * (content[0] if content else 0) + 3)) + content
    return kind + struct.pack(">H", (2 + len(content)) % 2**16) + content


def _tiff(data: bytes, random: Random) -> bytes:
    """Change an entry of the first directory: its tag, type, count or value."""
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
        how = random.randrange(4)
        tag = (
            random.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 330, 34665, 274, tag))
            if how == 0
            else tag
        )
        kind = random.choice((1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 16, 0, 99)) if how == 1 else kind
        values = integer(random) % 2**32 if how == 2 else values
        value = random.choice((integer(random) % 2**32, *range(1, 9), 32773, 32946, 5, 7)) if how == 3 else value
        data = data[:entry] + struct.pack(order + "HHII", tag, kind, values, value) + data[entry + 12 :]
    return data
