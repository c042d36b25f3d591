"""AVIF and HEIC: the supported kinds, and the limits on the work of a decoder."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import BadInput, InvalidImage, PictureTooLarge, TooManyFrames
from app.settings import PictureLimits
from app.vision.containers import HAS_HEIC
from app.vision.containers.heif import read_heif
from app.vision.decode import decode
from tests.vision.pictures import QUARTERS, quarters, saved

LIMITS = PictureLimits()
HEIC = (Path(__file__).parents[1] / "testdata" / "quarters.heic").read_bytes()
"""A picture of 96 x 64 pixels that is shown after a quarter turn clockwise (``testdata/make_heic.py``)."""
ORIENTATION, DESCRIPTION = 0x0112, 0x010E


def avif(image: Image.Image | None = None, **options: object) -> bytes:
    return saved(image or quarters(96, 64), "AVIF", **{"quality": 95, **options})


def assert_corners(image: Image.Image, *names: str) -> None:
    """Check the colours near the corners, in reading order."""
    right, bottom = image.width - 5, image.height - 5
    for place, name in zip(((4, 4), (right, 4), (4, bottom), (right, bottom)), names, strict=True):
        assert image.getpixel(place) == pytest.approx(QUARTERS[name], abs=16)


UPRIGHT = tuple(QUARTERS)
CLOCKWISE = ("bottom left", "top left", "bottom right", "top right")


def test_an_avif_is_decoded() -> None:
    picture = decode(avif(), LIMITS)
    assert (picture.format, picture.size, picture.image.mode) == ("AVIF", (96, 64), "RGB")
    assert_corners(picture.image, *UPRIGHT)


def test_transparent_parts_of_an_avif_become_white() -> None:
    image = quarters(96, 64).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 48, 32))
    assert decode(avif(image), LIMITS).image.getpixel((10, 10)) == pytest.approx((255, 255, 255), abs=3)


def test_an_avif_is_rotated_as_its_container_states() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # Pillow writes it as irot
    picture = decode(avif(exif=exif.tobytes()), LIMITS)
    assert picture.size == (64, 96)
    assert_corners(picture.image, *CLOCKWISE)


def test_the_still_image_of_a_sequence_is_decoded_and_its_frames_counted() -> None:
    others = [Image.new("RGB", (96, 64), colour) for colour in ("black", "white")]
    data = avif(save_all=True, append_images=others)
    assert data[8:12] == b"avis"
    assert_corners(decode(data, PictureLimits(frames=3)).image, *UPRIGHT)
    with pytest.raises(TooManyFrames):
        decode(data, PictureLimits(frames=2))


def test_metadata_are_hidden_from_the_decoder() -> None:
    exif = Image.Exif()
    exif[DESCRIPTION] = "a description"
    data = avif(xmp=b"<x:xmpmeta/>", exif=exif.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        assert {"xmp", "exif"} <= image.info.keys()
    with Image.open(io.BytesIO(read_heif("AVIF", data, LIMITS).data)) as image:
        assert not {"xmp", "exif"} & image.info.keys()


@pytest.mark.skipif(not HAS_HEIC, reason="pi_heif is not installed; requirements-heic.txt brings it")
def test_a_heic_is_decoded_and_rotated_as_its_container_states() -> None:
    picture = decode(HEIC, LIMITS)
    assert (picture.format, picture.size, picture.image.mode) == ("HEIC", (64, 96), "RGB")
    assert_corners(picture.image, *CLOCKWISE)


@pytest.mark.skipif(HAS_HEIC, reason="pi_heif is installed")
def test_a_heic_is_refused_with_the_missing_package() -> None:
    with pytest.raises(InvalidImage, match=r"it looks like HEIC, .*requirements-heic\.txt"):
        decode(HEIC, LIMITS)


def declared(data: bytes, width: int, height: int) -> bytes:
    """Return the file with another size in its container."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


Read = Callable[[bytes, PictureLimits], object]
FILES = [
    pytest.param(avif(), lambda data, limits: read_heif("AVIF", data, limits), id="AVIF"),
    pytest.param(HEIC, lambda data, limits: read_heif("HEIC", data, limits), id="HEIC"),
]


@pytest.mark.parametrize(("data", "read"), FILES)
def test_the_size_is_checked_in_the_container_and_in_the_coded_data(data: bytes, read: Read) -> None:
    read(data, PictureLimits(pixels=96 * 64))
    for other in (data, declared(data, 8, 8)):  # a small size in the container hides no large image
        with pytest.raises(PictureTooLarge, match="96 x 64 pixels"):
            read(other, PictureLimits(pixels=96 * 64 - 1))
    with pytest.raises(PictureTooLarge, match="20000 x 20000 pixels"):
        read(declared(data, 20_000, 20_000), LIMITS)


@pytest.mark.parametrize(("data", "read"), FILES)
def test_a_file_truncated_anywhere_is_refused(data: bytes, read: Read) -> None:
    for length in range(12, len(data), 7):
        with pytest.raises((BadInput, EOFError, struct.error, IndexError)):
            read(data[:length], LIMITS)


@pytest.mark.parametrize(("data", "read"), FILES)
def test_damaged_files_are_refused_or_read_within_the_limits(data: bytes, read: Read) -> None:
    draw = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        for at in draw.integers(0, min(len(data), 600), 3):
            damaged[at] = draw.integers(0, 256)
        try:
            outcomes.add(decode(bytes(damaged), LIMITS).image.mode)
        except BadInput:
            outcomes.add("refused")
    assert outcomes <= {"RGB", "refused"}
    assert "refused" in outcomes


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def test_the_tiles_of_a_grid_are_counted_each_time_they_are_decoded() -> None:
    """A grid of 100 x 100 names one tile in every place: its size is allowed, ten thousand times of it are not."""
    data = avif(Image.new("RGB", (256, 256)), speed=10)
    limits = PictureLimits(pixels=2**16)
    read_heif("AVIF", data, limits)
    references = box(b"iref", bytes(4) + box(b"dimg", struct.pack(">HH", 2, 10_000) + struct.pack(">H", 1) * 10_000))
    at, content = data.index(b"meta") - 4, data.index(b"mdat") + 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    changed = bytearray(data[:end] + references + data[end:])
    changed[at : at + 4] = (end - at + len(references)).to_bytes(4, "big")
    place = data.index(content.to_bytes(4, "big"), data.index(b"iloc"))
    changed[place : place + 4] = (content + len(references)).to_bytes(4, "big")
    with pytest.raises(InvalidImage, match=f"its parts have {10_001 * 2**16:,} pixels together"):
        read_heif("AVIF", bytes(changed), limits)
