"""Faces: a public-domain portrait (NASA, shipped with scikit-image), and pictures without any."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import skimage.data
from PIL import Image

from app.types import Box
from app.vision import opencv
from app.vision.faces import crop, find_faces, is_face_crop

from .pictures import noise

# Marked by eye in the portrait of 512 x 512 pixels.
LEFT_EYE, RIGHT_EYE, MOUTH = (203, 101), (247, 103), (224, 145)
CHIN, HAIR = (222, 177), (220, 30)


@cache
def portrait() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]


def within(point: tuple[int, int], box: Box) -> bool:
    return box.x <= point[0] < box.x + box.width and box.y <= point[1] < box.y + box.height


def test_the_portrait_has_one_face_with_eyes_and_mouth_in_its_box() -> None:
    (box,) = find_faces(portrait())
    assert all(within(point, box) for point in (LEFT_EYE, RIGHT_EYE, MOUTH))
    assert not within(CHIN, box) and not within(HAIR, box)


def test_the_box_is_cut_as_the_smile_networks_training_crops() -> None:
    # In SMILEs crops the eyes are at a height of 0.25 and at 0.25 and 0.74 of the width (medians of 277 crops in
    # which OpenCV's eye cascade finds two).
    (box,) = find_faces(portrait())
    for eye, across in ((LEFT_EYE, 0.25), (RIGHT_EYE, 0.74)):
        assert (eye[0] - box.x) / box.width == pytest.approx(across, abs=0.1)
        assert (eye[1] - box.y) / box.height == pytest.approx(0.25, abs=0.1)


def test_a_large_photograph_is_searched_in_a_copy_and_its_box_is_in_its_own_pixels() -> None:
    (small,) = find_faces(portrait())
    (large,) = find_faces(portrait().resize((3000, 3000)))
    for one, six in zip((small.x, small.y, small.width), (large.x, large.y, large.width), strict=True):
        assert six / 3000 == pytest.approx(one / 512, abs=0.02)


def test_several_faces_come_with_the_largest_first() -> None:
    face = portrait().crop((120, 0, 320, 220))
    group = Image.new("RGB", (800, 400), "grey")
    group.paste(face, (20, 100))
    group.paste(face.resize((320, 352)), (400, 20))
    boxes = find_faces(group)
    assert len(boxes) == 2
    assert boxes[0].x > 400 > boxes[1].x
    assert boxes[0].width > boxes[1].width
    assert find_faces(group, limit=1) == boxes[:1]


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "camera", "brick", "coins"])
def test_pictures_without_frontal_faces_of_people_give_none(name: str) -> None:
    assert find_faces(Image.fromarray(getattr(skimage.data, name)()).convert("RGB")) == ()


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (65_535, 1), (24, 24), (300, 300)])
def test_blank_pictures_of_any_size_give_none(size: tuple[int, int]) -> None:
    assert find_faces(Image.new("RGB", size, "white")) == ()


def test_noise_gives_none() -> None:
    assert find_faces(noise(600, 400)) == ()


def test_hits_that_overlap_are_one_face_and_rare_hits_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [((10, 10, 40, 40), 30), ((20, 20, 40, 40), 8), ((15, 15, 20, 20), 9), ((100, 100, 50, 50), 5)]
    monkeypatch.setattr(opencv, "detect_faces", lambda grey, min_side: hits)
    (box,) = find_faces(Image.new("RGB", (200, 200)))
    assert 10 <= box.x < 20 and box.width == pytest.approx(31, abs=1)


def test_boxes_lie_within_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "detect_faces", lambda grey, min_side: [((0, 0, 999, 1000), 50)])
    (box,) = find_faces(Image.new("RGB", (1999, 2001)))
    assert box.x >= 0 and box.y >= 0 and box.x + box.width <= 1999 and box.y + box.height <= 2001


def test_many_threads_search_at_once() -> None:
    small = portrait().crop((100, 0, 350, 250))
    expected = find_faces(small)
    assert len(expected) == 1
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_faces, [small] * 12)) == [expected] * 12


SMILE = (0, 1, 32, 32)


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (128, 128), (64, 60), (1, 1)])
def test_a_small_square_picture_is_a_face_crop(size: tuple[int, int]) -> None:
    assert is_face_crop(Image.new("RGB", size), SMILE)


@pytest.mark.parametrize("size", [(129, 129), (512, 512), (64, 48), (48, 64), (4000, 3000)])
def test_a_photograph_is_none(size: tuple[int, int]) -> None:
    assert not is_face_crop(Image.new("RGB", size), SMILE)


@pytest.mark.parametrize("shape", [(0, 3, 224, 224), (0, 224, 224, 3)])
def test_a_picture_of_the_size_of_a_larger_networks_input_is_a_face_crop(shape: tuple[int, ...]) -> None:
    assert is_face_crop(Image.new("RGB", (224, 224)), shape)
    assert not is_face_crop(Image.new("RGB", (300, 300)), shape)


def test_crop_is_the_part_within_the_box() -> None:
    picture = Image.new("RGB", (20, 20), "white")
    picture.paste((1, 2, 3), (5, 6, 12, 10))
    part = crop(picture, Box(5, 6, 7, 4))
    assert part.size == (7, 4)
    assert part.getcolors() == [(28, (1, 2, 3))]
