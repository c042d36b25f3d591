"""A parser of AVIF and HEIC files (HEIF, ISO/IEC 23008-12): boxes with a table of items, of which one is the image.

The sizes are checked in the coded data themselves (AV1's sequence header, HEVC's sequence parameter set), because a
decoder allocates memory for these, whatever the container declares. Sequences are reduced to their still image, and
metadata is hidden from the decoder, which ignores boxes and items of unknown types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.container import Container, check_blocks, check_frames, check_size

CODED = (b"av01", b"hvc1")
"""Types of coded items, by AV1 and by HEVC."""
_DECODED = (*CODED, b"grid", b"iden")
_HIDDEN = b"skip"
"""Type that metadata and items of other types get, such as gain maps."""
_SEQUENCE_BRANDS = {b"avis": b"avif", b"hevc": b"heic", b"hevx": b"heic", b"msf1": b"mif1"}
_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
MAX_ITEMS = 10_000
MAX_DECODED = 8
"""Maximum number of pixels of all coded items together, as a multiple of the limit of one image. A phone's photograph
has tiles, a thumbnail, a depth map and a gain map."""


@dataclass
class _Items:
    """The table of items: types, positions of their data (offset, length), and the references of grids.

    ``in_meta`` are items whose data are in the box ``idat``, at ``idat``. ``configured`` is the largest number of
    pixels in a configuration of HEVC.
    """

    types: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    tiles: dict[int, list[int]] = field(default_factory=dict)
    in_meta: set[int] = field(default_factory=set)
    idat: int = 0
    configured: int = 0


Box = tuple[bytes, int, int]
"""Type, and first and last position of the content."""


class _Reader:
    """A reader of boxes, which counts them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._count = 0

    def boxes(self, at: int, end: int) -> Iterator[Box]:
        while at + 8 <= end:
            self._count += 1
            check_blocks(self._count)
            size, kind = struct.unpack_from(">I4s", self.data, at)
            start = at + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", self.data, start)
                start += 8
            elif size == 0:
                size = end - at
            if size < start - at or at + size > end:
                raise EOFError("cut off")
            yield kind, start, at + size
            at += size

    def number(self, at: int, size: int) -> int:
        """Read a whole number of ``size`` bytes."""
        if at + size > len(self.data):
            raise EOFError("cut off")
        return int.from_bytes(self.data[at : at + size], "big")


def read_heif(format: str, data: bytes, limits: PictureLimits) -> Container:
    """Check a file's sizes, and return it without sequences and metadata.

    Its orientation is a property of the item (``irot``, ``imir``), which the decoder applies or reports; orientation in
    EXIF does not count (ISO/IEC 23008-12, section 6.5.10).

    :param format: ``AVIF`` or ``HEIC``.
    :raises EOFError, struct.error: if the file ends within its boxes.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    reader, rewritten, items, has_meta = _Reader(data), bytearray(data), _Items(), False
    for kind, start, end in reader.boxes(0, len(data)):
        if kind == b"ftyp":
            for at in (start, *range(start + 8, end - 3, 4)):
                brand = data[at : at + 4]
                rewritten[at : at + 4] = _SEQUENCE_BRANDS.get(brand, brand)
        elif kind == b"moov":
            _count_frames(reader, start, end, limits)
            rewritten[start - 4 : start] = b"free"
        elif kind == b"meta":
            if has_meta:
                raise InvalidImage(f"it is an {format} file with two tables of items, a kind that is not supported")
            has_meta = True
            _read_meta(reader, start + 4, end, items, rewritten, limits)
    if not has_meta or not any(kind in CODED for kind in items.types.values()):
        raise InvalidImage(f"it is an {format} file without a still image, a kind that is not supported")
    _check_items(reader, items, limits)
    return Container(format, bytes(rewritten))


def _count_frames(reader: _Reader, start: int, end: int, limits: PictureLimits) -> None:
    """Count the samples of each track of a sequence."""
    for kind, first, last in reader.boxes(start, end):
        if kind in _NESTED:
            _count_frames(reader, first, last, limits)
        elif kind in (b"stsz", b"stz2"):
            check_frames(reader.number(first + 8, 4), limits)


def _read_meta(
    reader: _Reader, start: int, end: int, items: _Items, rewritten: bytearray, limits: PictureLimits
) -> None:
    for kind, first, last in reader.boxes(start, end):
        if kind == b"iinf":
            _read_types(reader, first, last, items, rewritten)
        elif kind == b"iloc":
            _read_extents(reader, first, items)
        elif kind == b"iref":
            _read_references(reader, first, last, items)
        elif kind == b"idat":
            items.idat = first
        elif kind == b"iprp":
            for inner, at, stop in reader.boxes(first, last):
                if inner == b"ipco":
                    items.configured = max(items.configured, _check_properties(reader, at, stop, limits))


def _read_types(reader: _Reader, start: int, end: int, items: _Items, rewritten: bytearray) -> None:
    version = reader.number(start, 1)
    for kind, first, _last in reader.boxes(start + (6 if version == 0 else 8), end):
        entry = reader.number(first, 1)
        if kind != b"infe" or entry < 2:
            continue
        size = 2 if entry == 2 else 4
        at = first + 4 + size + 2
        name = reader.data[at : at + 4]
        items.types[reader.number(first + 4, size)] = name
        if name not in _DECODED:
            rewritten[at : at + 4] = _HIDDEN
    check_blocks(len(items.types), MAX_ITEMS, "items")


def _read_extents(reader: _Reader, start: int, items: _Items) -> None:
    version, sizes = reader.number(start, 1), reader.number(start + 4, 2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0
    id_size = 2 if version < 2 else 4
    count, at = reader.number(start + 6, id_size), start + 6 + id_size
    check_blocks(count, MAX_ITEMS, "items")
    extents = 0
    for _ in range(count):
        item, at = reader.number(at, id_size), at + id_size
        method, at = (reader.number(at, 2) & 15, at + 2) if version else (0, at)
        if method == 1:
            items.in_meta.add(item)
        elif method:
            raise InvalidImage("it keeps image data inside another image's, a kind that is not supported")
        first, pieces, at = reader.number(at + 2, base), reader.number(at + 2 + base, 2), at + 4 + base
        extents += pieces
        check_blocks(extents)
        places = items.extents.setdefault(item, [])
        for _ in range(pieces):
            at += index
            places.append((first + reader.number(at, offset), reader.number(at + offset, length)))
            at += offset + length


def _read_references(reader: _Reader, start: int, end: int, items: _Items) -> None:
    size = 2 if reader.number(start, 1) == 0 else 4
    for kind, first, last in reader.boxes(start + 4, end):
        if kind == b"dimg":
            count = reader.number(first + size, 2)
            if first + size + 2 + count * size > last:
                raise EOFError("cut off")
            tiles = items.tiles.setdefault(reader.number(first, size), [])
            tiles.extend(reader.number(first + size + 2 + number * size, size) for number in range(count))


def _check_properties(reader: _Reader, start: int, end: int, limits: PictureLimits) -> int:
    """Check every declared size, and the sizes in HEVC's configurations; return the most pixels of the latter."""
    pixels = 0
    for kind, first, last in reader.boxes(start, end):
        if kind == b"ispe":
            check_size(reader.number(first + 4, 4), reader.number(first + 8, 4), limits)
        elif kind == b"hvcC":
            for unit in _configured_units(reader, first, last):
                pixels = max(pixels, _check_unit(unit, limits))
    return pixels


def _configured_units(reader: _Reader, start: int, end: int) -> Iterator[bytes]:
    """Yield the parameter sets of an HEVC configuration (ISO/IEC 14496-15, section 8.3.3.1)."""
    at = start + 23
    for _ in range(reader.number(start + 22, 1)):
        count, at = reader.number(at + 1, 2), at + 3
        for _ in range(count):
            size, at = reader.number(at, 2), at + 2
            if at + size > end:
                raise EOFError("cut off")
            yield reader.data[at : at + size]
            at += size


def _check_items(reader: _Reader, items: _Items, limits: PictureLimits) -> None:
    """Check the size of every coded image, and of all that may be decoded together."""
    pixels: dict[int, int] = {}
    for item, kind in items.types.items():
        content = _content(reader, items, item) if kind in (*CODED, b"grid") else b""
        if kind == b"av01":
            pixels[item] = _check_av1(content, limits)
        elif kind == b"hvc1":
            pixels[item] = max(items.configured, _check_hevc(content, limits))
        elif kind == b"grid":
            size = 4 if content[1] & 1 else 2
            width, height = (int.from_bytes(content[at : at + size], "big") for at in (4, 4 + size))
            check_size(width, height, limits)
    decoded = sum(pixels.values()) + sum(pixels.get(tile, 0) for tiles in items.tiles.values() for tile in tiles)
    if decoded > MAX_DECODED * limits.pixels:
        raise InvalidImage(f"its parts have {decoded:,} pixels together, many more than the image")


def _content(reader: _Reader, items: _Items, item: int) -> bytes:
    start = items.idat if item in items.in_meta else 0
    pieces = []
    for offset, length in items.extents.get(item, ()):
        at = start + offset
        length = length or len(reader.data) - at
        if at + length > len(reader.data):
            raise EOFError("cut off")
        pieces.append(reader.data[at : at + length])
    return b"".join(pieces)


class _Bits:
    """A reader of single bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError("cut off")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def exponential(self) -> int:
        """Read an Exp-Golomb number (ITU-T H.265, section 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EOFError("no number")
        return (1 << zeros) - 1 + self.take(zeros)


_SEQUENCE_HEADER = 1
_HEADER_BYTES = 256
"""Bytes of a parameter set within which its size is."""


def _check_av1(content: bytes, limits: PictureLimits) -> int:
    """Check the sequence headers of an AV1 item (AV1 specification, sections 5.3 to 5.5); return the pixels."""
    at, count, pixels = 0, 0, 0
    while at < len(content):
        count += 1
        check_blocks(count)
        head = content[at]
        at += 1 + (head >> 2 & 1)
        size = len(content) - at
        if head & 2:
            size = shift = 0
            while True:
                byte, at = content[at], at + 1
                size |= (byte & 127) << shift
                shift += 7
                if not byte & 128 or shift > 56:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            width, height = _av1_size(_Bits(content[at : at + min(size, _HEADER_BYTES)]))
            check_size(width, height, limits)
            pixels = max(pixels, width * height)
        at += size
    if not pixels:
        raise EOFError("no sequence header")
    return pixels


def _av1_size(bits: _Bits) -> tuple[int, int]:
    bits.take(3)  # profile
    bits.take(1)  # still picture
    if bits.take(1):  # reduced header
        bits.take(5)
    else:
        has_model = 0
        delay_bits = 0
        if bits.take(1):  # timing
            bits.take(32)
            bits.take(32)
            if bits.take(1):
                bits.exponential()
            has_model = bits.take(1)
            if has_model:
                delay_bits = bits.take(5) + 1
                bits.take(32)
                bits.take(10)
        has_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):  # operating points
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if has_model and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if has_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


_SEQUENCE_PARAMETERS = 33


def _check_hevc(content: bytes, limits: PictureLimits) -> int:
    """Check the parameter sets within an HEVC item, whose units have lengths of four bytes; return the pixels of these.

    Usually there is none: the configuration has them, and :func:`_check_properties` has checked it.
    """
    at, count, pixels = 0, 0, 0
    while at + 4 <= len(content):
        count += 1
        check_blocks(count)
        size = int.from_bytes(content[at : at + 4], "big")
        pixels = max(pixels, _check_unit(content[at + 4 : at + 4 + min(size, _HEADER_BYTES)], limits))
        at += 4 + size
    return pixels


def _check_unit(unit: bytes, limits: PictureLimits) -> int:
    """Check the size in a unit of HEVC if it is a sequence parameter set (ITU-T H.265, section 7.3.2.2)."""
    if len(unit) < 3 or unit[0] >> 1 & 63 != _SEQUENCE_PARAMETERS:
        return 0
    bits = _Bits(unit[2:_HEADER_BYTES].replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # the general profile, tier and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.exponential()
    if bits.exponential() == 3:
        bits.take(1)
    width, height = bits.exponential(), bits.exponential()
    check_size(width, height, limits)
    return width * height
