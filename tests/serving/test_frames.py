"""Frames and pages are counted without decoding; Pillow makes the files and knows how many there are."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from app.errors import TooManyFrames
from app.serving.frames import check_frames
from tests.pictures import animation, encode, plain

MANY = [Image.new("RGB", (20, 16), (number * 9 % 256, 80, 40)) for number in range(12)]


def several(kind: str, **options: object) -> bytes:
    return encode(MANY[0], kind, save_all=True, append_images=MANY[1:], **options)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_as_many_as_are_allowed_pass_and_one_more_does_not(kind: str) -> None:
    data = several(kind)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 12  # type: ignore[attr-defined]
    check_frames(data, 12)
    check_frames(data, 0)
    with pytest.raises(TooManyFrames, match="more than 11 frames"):
        check_frames(data, 11)


def test_a_bigtiff_is_counted_too() -> None:
    data = several("TIFF", big_tiff=True)
    assert data[:4] == b"II+\0"
    check_frames(data, 12)
    with pytest.raises(TooManyFrames):
        check_frames(data, 11)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_one_picture_is_one_frame(kind: str) -> None:
    check_frames(encode(plain(), kind), 1)


def test_a_ring_of_directories_has_no_end_and_is_refused() -> None:
    data = bytearray(b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0")  # a directory of no entries, whose next is itself
    with pytest.raises(TooManyFrames):
        check_frames(bytes(data), 1000)


@pytest.mark.parametrize("data", [several("GIF"), several("PNG"), several("WEBP"), several("TIFF"), animation(20)])
def test_a_file_that_is_cut_anywhere_is_counted_as_far_as_it_goes(data: bytes) -> None:
    for end in range(0, len(data), max(1, len(data) // 97)):
        check_frames(data[:end], 20)
