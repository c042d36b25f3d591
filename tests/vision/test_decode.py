"""Decoding of every format in common use, and refusals of everything else."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import BadInput, EmptyFile, InvalidImage, PictureTooLarge
from app.settings import PictureLimits
from app.vision.decode import decode as decode_file
from tests.pictures import encode

from .pictures import MANY, QUARTERS, corners, exif_orientation, noise, png, png_chunk, quarters, saved

RED, GREEN, BLUE, YELLOW = QUARTERS.values()

EVERY_KIND: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("GIF", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
]
every_kind = pytest.mark.parametrize(
    ("format", "options"), EVERY_KIND, ids=["-".join([f, *map(str, o.values())]) for f, o in EVERY_KIND]
)


def decode(data: bytes, max_pixels: int, enough: int = 0) -> Image.Image:
    """Decode a file and return its pixels."""
    return decode_file(data, PictureLimits(max_pixels), enough).image


def near(found: Any, expected: Any, tolerance: int = 8) -> bool:
    """Return whether no channel is further off than a lossy format may be."""
    return bool(np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= tolerance)


# Common formats


@every_kind
def test_every_format_is_decoded_to_its_original_colours(format: str, options: dict[str, Any]) -> None:
    image = decode(saved(quarters(), format, **options), MANY)
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert near(corners(image), [RED, GREEN, BLUE, YELLOW])
    assert decode_file(saved(quarters(), format, **options), PictureLimits()).format == format


@pytest.mark.parametrize("progressive", [False, True])
def test_a_cmyk_jpeg_gives_the_colours_of_its_inks(progressive: bool) -> None:
    # No cyan, all magenta, all yellow, no black is red; Pillow writes it inverted with Adobe's marker, as Photoshop.
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert near(decode(saved(inks, "JPEG", quality=95, progressive=progressive), MANY).getpixel((8, 8)), RED)


def test_a_cmyk_tiff_gives_the_colours_of_its_inks() -> None:
    assert decode(saved(Image.new("CMYK", (4, 4), (255, 0, 255, 0)), "TIFF"), MANY).getpixel((1, 1)) == GREEN


def test_a_grey_jpeg_becomes_rgb() -> None:
    assert near(decode(saved(Image.new("L", (16, 16), 77), "JPEG"), MANY).getpixel((3, 3)), (77, 77, 77), 1)


def test_half_transparent_red_over_white_is_pink() -> None:
    image = decode(saved(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG"), MANY)
    assert near(image.getpixel((0, 0)), (255, 127, 127), 1)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_fully_transparent_pixels_become_white_with_any_hidden_colour(format: str) -> None:
    hidden = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    assert decode(saved(hidden, format), MANY).getpixel((0, 0)) == (255, 255, 255)


def test_grey_with_alpha_is_blended_with_white() -> None:
    assert decode(saved(Image.new("LA", (2, 2), (0, 0)), "PNG"), MANY).getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_alpha_is_blended_with_white() -> None:
    palette = png_chunk(b"PLTE", bytes((255, 0, 0, 0, 0, 0))) + png_chunk(b"tRNS", bytes((255, 128)))
    image = decode(png(2, 1, 8, 3, b"\0\0\1", palette), MANY)
    assert image.getpixel((0, 0)) == RED
    assert near(image.getpixel((1, 0)), (127, 127, 127), 1)


def test_the_transparent_colour_of_a_gif_becomes_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    decoded = decode(saved(image, "GIF", transparency=0), MANY)
    assert [decoded.getpixel((0, 0)), decoded.getpixel((2, 2))] == [(255, 255, 255), BLUE]


def test_one_bit_pictures_become_black_and_white() -> None:
    image = decode(png(8, 1, 1, 0, b"\0\xf0"), MANY)
    assert [image.getpixel((0, 0)), image.getpixel((7, 0))] == [(255, 255, 255), (0, 0, 0)]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    samples = [0, 257, 128 * 257, 65535]
    image = decode(png(4, 1, 16, 0, b"\0" + struct.pack(">4H", *samples)), MANY)
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_the_transparent_value_of_sixteen_bit_grey_becomes_white() -> None:
    clear = png_chunk(b"tRNS", struct.pack(">H", 257))
    image = decode(png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 257, 514), clear), MANY)
    assert [image.getpixel((0, 0)), image.getpixel((1, 0))] == [(255, 255, 255), (2, 2, 2)]


def test_sixteen_bit_colour_is_scaled() -> None:
    image = decode(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 65535, 128 * 257, 0)), MANY)
    assert image.getpixel((0, 0)) == (255, 128, 0)


def test_sixteen_bit_tiff_is_scaled() -> None:
    grey = Image.fromarray(np.full((3, 3), 200 * 257, np.uint16))
    assert decode(saved(grey, "TIFF"), MANY).getpixel((1, 1)) == (200, 200, 200)


def test_floats_from_zero_to_one_are_scaled() -> None:
    grey = Image.fromarray(np.full((3, 3), 0.4, np.float32))
    assert decode(saved(grey, "TIFF"), MANY).getpixel((1, 1)) == (102, 102, 102)


@pytest.mark.parametrize("value", [7.0, -1.0, float("nan"), float("inf")])
def test_floats_without_a_known_white_are_refused(value: float) -> None:
    grey = Image.fromarray(np.full((3, 3), value, np.float32))
    with pytest.raises(InvalidImage, match="white is not known"):
        decode(saved(grey, "TIFF"), MANY)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_decoded(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert near(decode(data, MANY).getpixel((4, 4)), GREEN)


def test_the_first_picture_of_a_multi_picture_jpeg_is_decoded() -> None:
    data = saved(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 16))])
    assert near(corners(decode(data, MANY)), [RED, GREEN, BLUE, YELLOW])


# Orientation. The stored corner that is seen in each corner, by CIPA DC-008's table of row 0 and column 0.

UPRIGHT = {
    1: ("top left", "top right", "bottom left", "bottom right"),
    2: ("top right", "top left", "bottom right", "bottom left"),
    3: ("bottom right", "bottom left", "top right", "top left"),
    4: ("bottom left", "bottom right", "top left", "top right"),
    5: ("top left", "bottom left", "top right", "bottom right"),
    6: ("bottom left", "top left", "bottom right", "top right"),
    7: ("bottom right", "top right", "bottom left", "top left"),
    8: ("top right", "bottom right", "top left", "bottom left"),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied(value: int, order: str, format: str) -> None:
    image = decode(saved(quarters(), format, exif=exif_orientation(value, order)), MANY)
    assert image.size == ((16, 32) if value > 4 else (32, 16))
    assert near(corners(image), [QUARTERS[where] for where in UPRIGHT[value]], 40)


@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_once(value: int) -> None:
    image = decode(saved(quarters(), "TIFF", tiffinfo={274: value}), MANY)
    assert corners(image) == [QUARTERS[where] for where in UPRIGHT[value]]


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"rubbish",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        exif_orientation(6)[:-9],
        exif_orientation(0),
        exif_orientation(9),
        b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 65535, 0x010F, 2, 4_000_000_000),
        exif_orientation(6).replace(b"\x12\x01\x03\0", b"\x12\x01\x02\0"),
    ],
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    picture = saved(quarters(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert decode(picture[:2] + segment + picture[2:], MANY).tobytes() == decode(picture, MANY).tobytes()


# Bounds


def test_a_picture_of_too_many_pixels_is_refused_by_its_header() -> None:
    started = time.thread_time()
    with pytest.raises(PictureTooLarge, match="40000 x 40000"):
        decode(png(40_000, 40_000, 8, 2, b""), MANY)
    assert time.thread_time() - started < 0.5


def test_a_picture_at_the_pixel_limit_is_allowed_and_one_pixel_more_is_not() -> None:
    data = saved(quarters(), "PNG")
    assert decode(data, 512).size == (32, 16)
    with pytest.raises(PictureTooLarge):
        decode(data, 511)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_the_pixel_limit_applies_to_every_format(format: str) -> None:
    with pytest.raises(PictureTooLarge, match="32 x 16"):
        decode(saved(quarters(), format), 100)


def test_a_strip_longer_than_any_camera_makes_is_refused() -> None:
    with pytest.raises(InvalidImage, match="65,535"):
        decode(png(1, 10_000_000, 1, 0, b""), MANY)


def test_an_animated_webp_with_a_huge_canvas_is_refused_by_its_header() -> None:
    canvas = struct.pack("<I", 0xFFFFFF)[:3]
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + canvas
    with pytest.raises(PictureTooLarge, match="16777216 x 16777216"):
        decode(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk, MANY)


def test_the_size_of_a_gif_with_a_frame_larger_than_its_canvas_is_the_frame() -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00;"
    with pytest.raises(PictureTooLarge, match="60000 x 60000"):
        decode(gif + frame, MANY)


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_an_animation_takes_no_more_time_than_its_first_frame(format: str) -> None:
    frames = [Image.new("L", (1500, 1500), 10 + k) for k in range(20)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    if format == "GIF":  # some 2 GB of pixels
        data = data[:-1] + data[data.rindex(b"!\xf9") : -1] * 900 + b";"
    one = saved(frames[0], format)
    fast, slow = _seconds(one), _seconds(data)
    assert slow < 4 * fast + 0.05


def _seconds(data: bytes) -> float:
    taken = []
    for _ in range(3):
        started = time.thread_time()
        decode(data, MANY)
        taken.append(time.thread_time() - started)
    return min(taken)


def _with_gif_comments(count: int) -> bytes:
    picture = saved(quarters(), "GIF")
    tables = 13 + 3 * 2 ** ((picture[10] & 7) + 1)
    return picture[:tables] + b"!\xfe" + (b"\xff" + b"a" * 255) * count + b"\0" + picture[tables:]


def _with_jpeg_segments(segment: bytes, count: int) -> bytes:
    picture = saved(quarters(), "JPEG")
    return picture[:2] + segment * count + picture[2:]


def _tiff_of_tags_that_each_claim_all_of_it() -> bytes:
    count, payload = 2000, bytes(20_000_000)
    tags = b"".join(struct.pack("<HHII", 256 + k, 7, len(payload), 14 + 12 * count) for k in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + tags + bytes(4) + payload


def _scans_without_end() -> bytes:
    picture = saved(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    return picture[:-2] + picture[picture.rindex(b"\xff\xda") : -2] * 5000 + b"\xff\xd9"


METADATA_BOMBS = {
    "comment of a GIF": lambda: _with_gif_comments(99_000),  # Pillow alone: 100 s
    "comments without end in a GIF": lambda: _with_gif_comments(110_000),
    "EXIF in bits": lambda: _with_jpeg_segments(b"\xff\xe1\0\x09Exif\0\0a", 90_000),
    "empty JPEG comments": lambda: _with_jpeg_segments(b"\xff\xfe\0\x02", 2_000_000),
    "JPEG scans": _scans_without_end,
    "empty PNG chunks": lambda: png(1, 1, 8, 0, b"\0\0", png_chunk(b"teXt", b"") * 1_000_000),
    "zipped PNG text": lambda: png(1, 1, 8, 0, b"\0\0", png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))),
    "overlapping TIFF tags": _tiff_of_tags_that_each_claim_all_of_it,
}


@pytest.mark.parametrize("bomb", METADATA_BOMBS)
def test_malicious_metadata_do_not_slow_down_decoding(bomb: str) -> None:
    data = METADATA_BOMBS[bomb]()
    started = time.thread_time()
    with contextlib.suppress(InvalidImage):
        decode(data, MANY)
    # a guard, not a measurement: our own work takes milliseconds, what the bombs do to Pillow takes 10 s to hours
    assert time.thread_time() - started < 5


def test_a_picture_with_a_damaged_text_chunk_is_decoded() -> None:
    data = png(1, 1, 8, 0, b"\0\x07", png_chunk(b"zTXt", b"a\0\0not zipped") + png_chunk(b"acTL", bytes(8)))
    assert decode(data, MANY).getpixel((0, 0)) == (7, 7, 7)


# Other files

NOT_PICTURES = {
    "it looks like text": b"Hello, I was renamed to picture.jpg.",
    "it looks like text.": "Grüße\r\n".encode() * 300,
    "it looks like text. ": "Grüße".encode("utf-16"),
    "it looks like HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "it looks like SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "it looks like a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "it is an AVIF file without a still image": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
    "it looks like a video": b"\0\0\0\x18ftypisom\0\0\0\0isom",
    "it looks like a ZIP": b"PK\x03\x04\x14\0\0\0",
    "a data: URL": b"data:image/png;base64,iVBORw0KGgo=",
    "its format is not known": bytes(range(256)),
    "starts like a JPEG": b"\xff\xd8\xff",
    "starts like a PNG": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("what", NOT_PICTURES)
def test_files_that_are_not_pictures_are_refused_with_their_apparent_type(what: str) -> None:
    with pytest.raises(InvalidImage) as refused:
        decode(NOT_PICTURES[what], MANY)
    assert what.rstrip(". ") in str(refused.value)


@pytest.mark.parametrize("format", ["PPM", "ICO", "JPEG2000", "TGA", "PCX"])
def test_unsupported_formats_are_not_opened(format: str) -> None:
    with pytest.raises(InvalidImage):
        decode(saved(quarters(), format), MANY)


def test_zero_bytes_are_an_empty_file() -> None:
    with pytest.raises(EmptyFile):
        decode(b"", MANY)


@every_kind
def test_a_file_truncated_halfway_is_refused_as_cut_off(format: str, options: dict[str, Any]) -> None:
    data = saved(noise(), format, **options)
    with pytest.raises(InvalidImage, match="the file is cut off"):
        decode(data[: len(data) // 2], MANY)


@every_kind
def test_a_file_truncated_anywhere_gives_the_complete_picture_or_an_error(format: str, options: dict[str, Any]) -> None:
    data = saved(noise(), format, **options)
    whole = decode(data, MANY).tobytes()
    for length in {*range(1, len(data), max(1, len(data) // 300)), *range(len(data) - 30, len(data))}:
        try:
            assert decode(data[:length], MANY).tobytes() == whole, length
        except BadInput:
            continue


@every_kind
def test_damaged_files_raise_only_bad_input(format: str, options: dict[str, Any]) -> None:
    chance = random.Random(f"{format}{options}")
    data = saved(noise(), format, **options)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            # Half of the damage is done to the header, which determines all decisions.
            end = len(data) if chance.random() < 0.5 else min(len(data), 200)
            damaged[chance.randrange(end)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        try:
            image = decode(bytes(damaged), 1_000_000)
        except BadInput:
            continue
        assert image.mode == "RGB"


def test_many_threads_decode_at_once() -> None:
    files = [saved(noise(seed=seed), format) for seed in range(4) for format in ("JPEG", "PNG", "TIFF", "WEBP", "GIF")]
    expected = [decode(data, MANY).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: decode(data, MANY).tobytes(), files * 10))
    assert found == expected * 10


@pytest.mark.parametrize(("enough", "size"), [(0, (800, 640)), (400, (800, 640)), (320, (400, 320)), (1, (100, 80))])
def test_a_jpeg_is_not_scaled_below_the_requested_side(enough: int, size: tuple[int, int]) -> None:
    # libjpeg scales by 1/2, 1/4 and 1/8
    assert decode(encode(Image.new("RGB", (800, 640), "teal"), "JPEG"), 10**6, enough).size == size


def test_a_png_is_decoded_at_full_size() -> None:
    assert decode(encode(Image.new("RGB", (800, 640), "teal"), "PNG"), 10**6, 1).size == (800, 640)


def lossless_jpeg(width: int, height: int) -> bytes:
    """Return a lossless JPEG (T.81, annex H) of grey 128: predictor 1, and every difference has the one code for zero,
    0.
    """
    frame = struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0)
    table = bytes([0x00, 1, *[0] * 15, 0])
    scan = bytes([1, 1, 0x00, 1, 0, 0])
    parts = ((0xC3, frame), (0xC4, table), (0xDA, scan))
    segments = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(body)) + body for marker, body in parts)
    return b"\xff\xd8" + segments + bytes(-(-width * height // 8)) + b"\xff\xd9"


def test_a_lossless_jpeg_is_never_scaled() -> None:
    image = decode(lossless_jpeg(800, 640), 10**6, 1)
    assert image.size == (800, 640)
    assert image.getcolors() == [(800 * 640, (128, 128, 128))]


@pytest.mark.parametrize(("options", "size"), [({}, (101, 81)), ({"progressive": True}, (101, 81))])
def test_every_scalable_jpeg_is_scaled(options: dict[str, bool], size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", (808, 641), "teal"), "JPEG", **options)
    assert decode(data, 10**6, 1).size == size


@pytest.mark.parametrize(("orientation", "size"), [(1, (1000, 999)), (6, (999, 1000))])
def test_a_scaled_picture_has_its_full_size_after_rotation(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.new("RGB", (1000, 999), "teal"), "JPEG", exif=exif)
    assert decode_file(data, PictureLimits(), 1).size == size
    assert decode_file(data, PictureLimits()).size == size
