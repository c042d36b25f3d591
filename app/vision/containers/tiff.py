"""A parser of TIFF files (Adobe, TIFF 6.0; BigTIFF), which keeps the first directory's tags that are needed for the
pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.containers.container import Container, Samples, check_frames, check_size

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR = 256, 257, 258, 259, 262, 284
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING = 338, 339, 530
# Size and samples (256-262, 277, 338, 339), fill order, strips and tiles (273, 278, 279, 284, 322-325), orientation
# (274), fax (292, 293), predictor (317), palette (320), JPEG (347, 512-521) and YCbCr (529-532).
_NEEDED = {
    *range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 338, 339, 347,
    *range(512, 522), *range(529, 533),
}  # fmt: skip
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
MAX_VALUES = 1_000_000  # a strip for each row, or a tile for each 16 x 16 pixels, needs fewer

_UINT, _FLOAT = 1, 3
_PHOTOMETRICS = {
    0: "white is 0", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELAB", 9: "ICCLAB",
    10: "ITULAB", 32803: "colour filter array", 32844: "LogL", 32845: "LogLUV", 34892: "linear raw",
}  # fmt: skip
_FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 4: "undefined ", 5: "complex ", 6: "complex "}
# Samples that are decoded correctly: photometric interpretation -> bits. Pillow itself refuses what it does not support
# of these (most kinds of extra samples, 12 bits in big-endian files).
_DECODED = {0: (1, 2, 4, 8, 12, 16), 1: (1, 2, 4, 8, 12, 16), 2: (8, 16), 3: (1, 2, 4, 8), 5: (8, 16), 6: (8,), 8: (8,)}
_DECODED_FLOATS = {0: (32,), 1: (32,)}
_OLD_JPEG, _JPEG = 6, 7
_YCBCR = 6
# Pixels that share their chroma, across and down. With 4 x 4, libtiff decodes the edge wrongly if a side is not
# divisible by 4.
_SUBSAMPLINGS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4))
_OVERLAP = 2  # maximum total length of all strips, as a multiple of the file's length
# none, three of faxes, LZW, two of JPEG, two of Deflate, PackBits, ThunderScan, LZMA, Zstandard
_COMPRESSIONS = (1, 2, 3, 4, 5, _OLD_JPEG, _JPEG, 8, 32946, 32773, 32809, 34925, 50000)


@dataclass(frozen=True)
class _Layout:
    """The layout of a directory: ``struct`` formats of its offset, its count, and an entry's tag, type and length."""

    order: str
    offset_at: int
    offset: str
    count: str
    entry: str
    entry_bytes: int

    @property
    def value_at(self) -> int:
        """Return the position within an entry of its value, or of the offset of its values."""
        return struct.calcsize(self.entry)


_LAYOUTS = {
    b"II*\0": _Layout("<", 4, "<I", "<H", "<HHI", 12),
    b"MM\0*": _Layout(">", 4, ">I", ">H", ">HHI", 12),
    b"II+\0": _Layout("<", 8, "<Q", "<Q", "<HHQ", 20),
}


def read_tiff(data: bytes, limits: PictureLimits) -> Container:
    """Return the file with a first directory of only the needed tags, and no second one.

    The directory is written over the old one, which is at least as long, so all offsets stay valid.

    :raises EOFError, struct.error, OverflowError: if the file ends within its directory.
    :raises ValueError: if its tags claim more bytes than the file has.
    :raises BadInput: as :func:`app.vision.containers.read_container`.
    """
    layout = _LAYOUTS[data[:4]]
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    entries = _entries(data, layout, start)
    _count_pages(data, layout, start, limits)
    needed = _needed_entries(entries, layout, len(data))
    tags = _Tags(data, layout, needed)
    check_size(tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0), limits)
    kind, samples = _samples(tags)
    if samples.inverted:
        needed[_PHOTOMETRIC] = _short(layout, _PHOTOMETRIC, 1)

    directory = struct.pack(layout.count, len(needed)) + b"".join(needed.values())
    directory += bytes(struct.calcsize(layout.offset))
    rewritten = data[:start] + directory + data[start + len(directory) :]
    return Container("TIFF", rewritten, short=_is_short(tags), kind=kind, samples=samples)


def _entries(data: bytes, layout: _Layout, start: int) -> list[bytes]:
    first = start + struct.calcsize(layout.count)
    if first > len(data):
        raise EOFError("cut off")
    (count,) = struct.unpack_from(layout.count, data, start)
    end = first + count * layout.entry_bytes
    if end > len(data):
        raise EOFError("cut off")
    return [data[at : at + layout.entry_bytes] for at in range(first, end, layout.entry_bytes)]


def _count_pages(data: bytes, layout: _Layout, start: int, limits: PictureLimits) -> None:
    """Count the directories, each of which contains the offset of the next (TIFF 6.0, section 2). A cycle exceeds the
    limit.

    In a file that is damaged after its first directory, the directories before the damage count.
    """
    pages, place = 0, start
    while place and limits.frames:
        pages += 1
        check_frames(pages, limits)
        try:
            (entries,) = struct.unpack_from(layout.count, data, place)
            after = place + struct.calcsize(layout.count) + entries * layout.entry_bytes
            (place,) = struct.unpack_from(layout.offset, data, after)
        except (struct.error, OverflowError):  # beyond the file, or beyond the range of an offset
            return


def _needed_entries(entries: list[bytes], layout: _Layout, file_bytes: int) -> dict[int, bytes]:
    """Return the entries of needed tags, each once."""
    needed: dict[int, bytes] = {}
    claimed = 0
    for entry in entries:
        tag, kind, values = struct.unpack_from(layout.entry, entry)
        if tag not in _NEEDED or tag in needed:
            continue
        claimed += values * _VALUE_BYTES.get(kind, 1)
        if values > MAX_VALUES or claimed > file_bytes:
            raise ValueError(f"tag {tag} claims {values} values")
        needed[tag] = entry
    return needed


@dataclass(frozen=True)
class _Tags:
    data: bytes
    layout: _Layout
    entries: dict[int, bytes]

    def numbers(self, tag: int, default: tuple[int, ...], most: int = 16) -> tuple[int, ...]:
        """Return the first values of a tag of whole numbers; ``default`` if the file lacks the tag."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        _, kind, count = struct.unpack_from(self.layout.entry, entry)
        values = struct.Struct(f"{self.layout.order}{min(count, most)}{_WHOLE_NUMBERS[kind]}")
        source, at = entry, self.layout.value_at
        if count * _VALUE_BYTES[kind] > len(entry) - at:
            (at,) = struct.unpack_from(self.layout.offset, entry, at)
            source = self.data
        return values.unpack_from(source, at)

    def number(self, tag: int, default: int) -> int:
        return self.numbers(tag, (default,), 1)[0]


def _samples(tags: _Tags) -> tuple[str, Samples]:
    """Describe the samples of a file, and return the conversions that its decoder leaves.

    :raises InvalidImage: if the decoder does not support them, or gets them wrong.
    """
    compression = tags.number(_COMPRESSION, 1)
    photometric = _YCBCR if compression == _OLD_JPEG else tags.number(_PHOTOMETRIC, 0)
    bits, extra = tags.numbers(_BITS, (1,)), tags.numbers(_EXTRA_SAMPLES, ())
    planar = tags.number(_PLANAR, 1) == 2
    formats = {*tags.numbers(_SAMPLE_FORMAT, (_UINT,))}
    kind = _describe(photometric, bits, formats, extra, planar)

    bit, floats = bits[0], formats == {_FLOAT}
    known = (_DECODED_FLOATS if floats else _DECODED).get(photometric, ())
    if {*bits} != {bit} or bit not in known or not (floats or formats == {_UINT}):
        raise InvalidImage(f"{kind}, a kind that is not supported")
    # of planes, Pillow uses the alpha of RGB, and ignores other extra samples
    if planar and extra and (photometric == _YCBCR or (any(extra) and (photometric != 2 or len(extra) > 1))):
        raise InvalidImage(f"{kind}, a kind that is not supported")
    if compression not in _COMPRESSIONS:
        raise InvalidImage(f"it is a TIFF with compression {compression}, which is not supported")
    if photometric == _YCBCR and compression not in (_OLD_JPEG, _JPEG):
        _check_subsampling(tags)
    return kind, Samples(2**bit - 1, photometric == 0 and bit > 8, floats and tags.layout.order == ">")


def _check_subsampling(tags: _Tags) -> None:
    across, down = tags.numbers(_SUBSAMPLING, (2, 2), 2)
    ragged = tags.number(_WIDTH, 0) % 4 or tags.number(_HEIGHT, 0) % 4
    if (across, down) not in _SUBSAMPLINGS or ((across, down) == (4, 4) and ragged):
        raise InvalidImage(f"it is a TIFF of YCbCr, {across} x {down} subsampled, a kind that is not supported")


def _is_short(tags: _Tags) -> bool:
    """Return whether a strip or tile lies beyond the end of the file.

    :raises EOFError: if their total length exceeds ``_OVERLAP`` times the file's; libtiff would log a line for each.
    """
    for tag, length_tag in ((273, 279), (324, 325)):
        offsets, lengths = tags.numbers(tag, (), MAX_VALUES), tags.numbers(length_tag, (), MAX_VALUES)
        if len(lengths) > 1 and sum(lengths) > _OVERLAP * len(tags.data):
            raise EOFError("cut off")
        if any(offset + length > len(tags.data) for offset, length in zip(offsets, lengths, strict=False)):
            return True
    return False


def _describe(photometric: int, bits: tuple[int, ...], formats: set[int], extra: tuple[int, ...], planar: bool) -> str:
    each = "/".join(str(bit) for bit in sorted({*bits}))
    format = "".join(_FORMATS.get(item, "unknown ") for item in sorted(formats))
    name = _PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
    beside = f" and {len(extra)} beside" if extra else ""
    return f"it is a TIFF of {format}{each}-bit samples ({name}{beside}{', plane by plane' if planar else ''})"


def _short(layout: _Layout, tag: int, value: int) -> bytes:
    """Return an entry of one 16-bit number."""
    entry = struct.pack(layout.entry, tag, 3, 1) + struct.pack(layout.order + "H", value)
    return entry.ljust(layout.entry_bytes, b"\0")
