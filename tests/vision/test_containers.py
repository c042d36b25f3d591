"""The parsing of files within limits, and corrections or refusals of what their decoder gets wrong."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from app.errors import BadInput, InvalidImage, PictureTooLarge, TooManyFrames
from app.settings import PictureLimits
from app.vision.decode import decode
from tests.pictures import animation, encode, plain

from .pictures import QUARTERS, corners, lossless_jpeg, noise, quarters, saved
from .tiffs import Tiff

RED, GREEN, BLUE, YELLOW = QUARTERS.values()
MANY = [Image.new("RGB", (20, 16), (number * 9 % 256, 80, 40)) for number in range(12)]
LIMITS = PictureLimits()


def pixels(data: bytes, limits: PictureLimits = LIMITS) -> np.ndarray:
    return np.asarray(decode(data, limits).image)


# Frames


def several(kind: str, **options: object) -> bytes:
    return encode(MANY[0], kind, save_all=True, append_images=MANY[1:], **options)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "BigTIFF"])
def test_the_allowed_number_of_frames_is_accepted_and_one_more_is_not(kind: str) -> None:
    data = several("TIFF", big_tiff=True) if kind == "BigTIFF" else several(kind)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 12  # type: ignore[attr-defined]
    for frames in (12, 0):
        assert decode(data, PictureLimits(frames=frames)).image.size == (20, 16)
    with pytest.raises(TooManyFrames, match="more than 11 frames"):
        decode(data, PictureLimits(frames=11))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_one_picture_is_one_frame(kind: str) -> None:
    decode(encode(plain(), kind), PictureLimits(frames=1))


def test_a_cycle_of_directories_is_refused() -> None:
    data = saved(quarters(), "TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    after = start + 2 + 12 * entries
    with pytest.raises(TooManyFrames):
        decode(data[:after] + struct.pack("<I", start) + data[after + 4 :], LIMITS)


@pytest.mark.parametrize("data", [several("GIF"), several("PNG"), several("WEBP"), several("TIFF"), animation(20)])
def test_a_truncated_animation_is_its_first_frame_or_refused(data: bytes) -> None:
    whole = pixels(data)
    for end in range(1, len(data), max(1, len(data) // 97)):
        try:
            assert np.array_equal(pixels(data[:end]), whole), end
        except BadInput:
            continue


# Costs


def _tiff_with_tags(mark: bytes, tags: int, payload: bytes) -> bytes:
    """Return a picture with tags that each claim the whole of the same payload."""
    order, big = ("<" if mark.startswith(b"I") else ">"), b"+" in mark
    needless = {50_000 + number: (1, [0] * 20) for number in range(tags)}
    data = bytearray(Tiff(order=order, big=big, tags=needless).write(np.zeros((8, 8, 3), int)))
    offset, count, step = ("Q", "Q", 20) if big else ("I", "H", 12)
    (start,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    first = start + struct.calcsize("=" + count)
    (entries,) = struct.unpack_from(order + count, data, start)
    for at in range(first, first + entries * step, step):
        if struct.unpack_from(order + "H", data, at)[0] >= 50_000:
            struct.pack_into(order + 2 * offset, data, at + 4, len(payload), len(data))
    return mark + bytes(data[4:]) + payload


@pytest.mark.parametrize("mark", [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*"])
def test_the_tags_of_a_tiff_take_no_memory_with_any_header(mark: bytes) -> None:
    data = _tiff_with_tags(mark, 100, bytes(6_000_000))
    decode(saved(quarters(), "TIFF"), LIMITS)
    tracemalloc.start()
    with contextlib.suppress(InvalidImage):
        decode(data, LIMITS)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 3 * len(data)


def _rle4_bitmap(width: int, height: int, runs: bytes) -> bytes:
    palette = bytes(range(64))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 4, 2, len(runs), 0, 0, 16, 0)
    return struct.pack("<2sIII", b"BM", 118 + len(runs), 0, 118) + header + palette + runs


def _gif(width: int, height: int, sub_blocks: bytes) -> bytes:
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x80, 0, 0) + bytes((0, 0, 0, 255, 255, 255))
    return screen + struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, 2) + sub_blocks + b"\0;"


DEAR = {
    # what Pillow alone did with them at 528 kB to 31 MB: 3 to 9 s
    "an RLE4 bitmap": lambda: _rle4_bitmap(8000, 8000, (b"\xff\x12" * 31 + b"\x5f\x12\0\0") * 8000 + b"\0\1"),
    "an RLE4 bitmap of single pixels": lambda: _rle4_bitmap(8000, 8000, b"\x01\x12" * 15_000_000),
    "sub-blocks of a GIF": lambda: _gif(8, 8, b"\x01\0" * 15_000_000),
    "sub-blocks behind a GIF's picture": lambda: encode(plain(), "GIF")[:-1] + b"!\xfe" + b"\x01\0" * 15_000_000,
    "frames of a GIF": lambda: _gif(8, 8, b"")[:-1] + b"\x2c\0\0\0\0\1\0\1\0\0\2\0" * 2_500_000,
}


@pytest.mark.parametrize("what", DEAR)
def test_the_time_to_decode_is_proportional_to_pixels_and_blocks(what: str) -> None:
    data = DEAR[what]()
    started = time.thread_time()
    with contextlib.suppress(BadInput):
        decode(data, LIMITS)
    # a guard, not a measurement: it takes 0.1 to 0.6 s
    assert time.thread_time() - started < 2.5


# BMP


@pytest.mark.parametrize("length", range(3, 12))
@pytest.mark.parametrize("bits", [4, 8])
def test_literal_runs_of_any_length_keep_their_place(bits: int, length: int) -> None:
    colours = [(3 * number + 1) % 16 for number in range(length)]
    packed = bytes(colours)
    if bits == 4:
        pairs = itertools.zip_longest(colours[::2], colours[1::2], fillvalue=0)
        packed = bytes(high << 4 | low for high, low in pairs)
    runs = bytes((0, length)) + packed + b"\0" * (len(packed) % 2) + b"\x02\x77\0\1"
    palette = b"".join(bytes((10 * number, 0, 0, 0)) for number in range(16))
    header = struct.pack("<IiiHHIIiiII", 40, length + 2, 1, 1, bits, 1 if bits == 8 else 2, len(runs), 0, 0, 16, 0)
    data = struct.pack("<2sIII", b"BM", 118 + len(runs), 0, 118) + header + palette + runs
    last = 0x77 if bits == 8 else 7
    expected = [10 * colour for colour in colours] + ([0, 0] if last > 15 else [70, 70])
    assert pixels(data)[0, :, 2].tolist() == expected


def test_runs_skip_lines_and_pixels_and_end_early() -> None:
    # lowest line first: two of colour 1; the next: skip one right and one up, then one of colour 2
    runs = b"\x02\x11\0\0" + b"\0\x02\x01\x01" + b"\x01\x22" + b"\0\1"
    found = pixels(_rle4_bitmap(3, 4, runs))[:, :, 0]
    one, two = 4 * 1 + 2, 4 * 2 + 2  # the palette's red bytes
    assert found.tolist() == [[2, 2, 2], [2, two, 2], [2, 2, 2], [one, one, 2]]


def bitfields(bits: int, masks: tuple[int, int, int, int], values: list[int], header: int = 108) -> bytes:
    row = np.array(values, f"<u{bits // 8}").tobytes()
    row += b"\0" * (-len(row) % 4)
    head = struct.pack("<IiiHHIIiiII", header, len(values), 1, 1, bits, 3, len(row), 0, 0, 0, 0)
    head += struct.pack("<4I", *masks) if header > 40 else struct.pack("<3I", *masks[:3])
    head = head.ljust(header if header > 40 else 52, b"\0")
    return struct.pack("<2sIII", b"BM", 0, 0, 14 + len(head)) + head + row


def test_bit_fields_of_any_width_are_scaled_and_alpha_is_blended_with_white() -> None:
    data = bitfields(16, (0xF00, 0xF0, 0xF, 0), [0xF00, 0x0F0, 0x00F, 0x888], header=40)
    assert pixels(data)[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [136, 136, 136]]
    data = bitfields(32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000), [0x3FF | 3 << 30, 0x3FF << 10 | 2 << 30, 0])
    assert pixels(data)[0].tolist() == [[255, 0, 0], [85, 255, 85], [255, 255, 255]]
    data = bitfields(16, (0x7C00, 0x3E0, 0x1F, 0x8000), [0x7C00, 0xFC00])
    assert pixels(data)[0].tolist() == [[255, 255, 255], [255, 0, 0]]


def test_a_bitmap_with_alpha_zero_everywhere_is_opaque_as_in_browsers() -> None:
    data = bitfields(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), [0xFF0000, 0x00FF00])
    assert pixels(data)[0].tolist() == [[255, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(14, 16, "a header of 16 bytes"), (28, 2, "2 bits a pixel"), (30, 4, "a JPEG"), (30, 5, "a PNG"),
     (30, 9, "compression 9"), (28, 64, "64 bits a pixel")],
)  # fmt: skip
def test_a_kind_of_bitmap_that_is_not_decoded_is_named(at: int, value: int, message: str) -> None:
    data = saved(quarters(), "BMP")
    with pytest.raises(InvalidImage, match=f"{message}.*not supported"):
        decode(data[:at] + struct.pack("<H", value) + data[at + 2 :], LIMITS)


# GIF


def test_the_area_around_a_small_first_frame_is_white() -> None:
    frame = saved(quarters(), "GIF")
    at = frame.index(b"\x2c\0\0\0\0\x20\0\x10\0")
    moved = frame[:6] + struct.pack("<HH", 60, 40) + frame[10:at] + struct.pack("<BHH", 0x2C, 10, 5) + frame[at + 5 :]
    image = decode(moved, LIMITS).image
    assert image.size == (60, 40)
    assert corners(image) == [(255, 255, 255)] * 4
    assert corners(image.crop((10, 5, 42, 21))) == [RED, GREEN, BLUE, YELLOW]


def test_the_screen_of_a_gif_counts_as_its_size() -> None:
    frame = saved(quarters(), "GIF")
    with pytest.raises(PictureTooLarge, match="60000 x 40000"):
        decode(frame[:6] + struct.pack("<HH", 60_000, 40_000) + frame[10:], LIMITS)


# JPEG


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_with_a_note(options: dict[str, object], missing: int) -> None:
    data = saved(noise(), "JPEG", **options)
    found = decode(data[:-missing], LIMITS)
    assert np.array_equal(np.asarray(found.image), pixels(data))
    assert "EOI" in found.note
    assert decode(data, LIMITS).note == ""


@pytest.mark.parametrize("enough", [0, 1, 8])
def test_a_lossless_jpeg_is_decoded_at_full_size(enough: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)
    found = decode(lossless_jpeg(samples), LIMITS, enough).image
    assert np.array_equal(np.asarray(found)[:, :, 1], samples)


@pytest.mark.parametrize("enough", [0, 1])
@pytest.mark.parametrize(
    ("marker", "bits", "message"),
    [(0xC1, 12, "samples of 12 bits"), (0xC3, 16, "samples of 16 bits"), (0xC5, 8, "hierarchical coding"),
     (0xCB, 8, "lossless arithmetic coding"), (0xF7, 8, "the coding of JPEG-LS")],
)  # fmt: skip
def test_a_kind_of_jpeg_that_is_not_decoded_is_named(marker: int, bits: int, message: str, enough: int) -> None:
    data = saved(quarters(), "JPEG")
    at = data.index(b"\xff\xc0")
    changed = data[:at] + bytes((0xFF, marker)) + data[at + 2 : at + 4] + bytes((bits,)) + data[at + 5 :]
    with pytest.raises(InvalidImage, match=f"a JPEG with {message}, which is not supported"):
        decode(changed, LIMITS, enough)


def test_a_jpeg_with_two_components_is_named() -> None:
    data = saved(quarters(), "JPEG")
    at = data.index(b"\xff\xc0") + 9
    with pytest.raises(InvalidImage, match="2 components"):
        decode(data[:at] + b"\x02" + data[at + 1 :], LIMITS)


# Any exception at all


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "EOFError"),
        (b"II*\0\x08\0\0\0\xff\xff", "EOFError"),
        (b"BM" + bytes(12) + struct.pack("<I", 40), "error"),
        (b"GIF89a", "EOFError"),
    ],
)
def test_every_exception_of_a_parser_is_a_415_and_its_type_is_logged(
    data: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(InvalidImage):
        decode(data, LIMITS)
    assert f"refused: {kind}" in caplog.text


@pytest.mark.parametrize("at", range(4, 24))
def test_a_bigtiff_with_invalid_offsets_is_refused(at: int) -> None:
    data = Tiff(big=True).write(np.zeros((4, 4, 3), int))
    for wild in (2**63 - 1, 2**64 - 1, 2**62):
        changed = data[:at] + struct.pack("<Q", wild) + data[at + 8 :]
        try:
            decode(changed, LIMITS)
        except InvalidImage:
            continue
