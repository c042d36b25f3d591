"""The count of detected faces. The boxes were drawn on squared paper."""

from __future__ import annotations

import json

from app.types import Box
from bench.faces import LABELS, cascade, matched
from tests.pictures import astronaut

FACE, OTHER = [100, 100, 140, 150], [200, 100, 240, 150]


def test_a_box_counts_if_its_centre_lies_in_a_face_of_about_its_size() -> None:
    assert matched([FACE], [Box(105, 110, 30, 30)]) == 1
    assert matched([FACE], [Box(145, 110, 30, 30)]) == 0  # beside it
    assert matched([FACE], [Box(115, 115, 15, 15)]) == 0  # a nose
    assert matched([FACE], [Box(70, 70, 100, 100)]) == 0  # a whole head and shoulders


def test_a_face_that_is_found_twice_counts_once_and_one_box_is_one_face() -> None:
    assert matched([FACE], [Box(105, 110, 30, 30), Box(106, 111, 30, 30)]) == 1
    assert matched([FACE, FACE], [Box(105, 110, 30, 30)]) == 1
    assert matched([FACE, OTHER], [Box(205, 110, 30, 30), Box(105, 110, 30, 30)]) == 2


def test_the_labels_are_of_many_faces_each_large_enough_to_be_marked() -> None:
    labels = json.loads(LABELS.read_text())
    faces = [face for label in labels for face in label["faces"]]
    assert len(faces) >= 60
    assert all(left < right and top < bottom for left, top, right, bottom in faces)
    assert len({label["sha256"] for label in labels}) == len(labels)


def test_the_cascade_finds_the_face_of_the_astronaut() -> None:
    (box,) = cascade(astronaut())
    assert matched([[178, 60, 268, 185]], [box]) == 1
