"""How labels and faces are put into words."""

from __future__ import annotations

import pytest

from app.web.pages.view_models import face_kind, faces_summary, headline


def face(*classes: str) -> dict[str, list[dict[str, object]]]:
    """A face of an answer's document, its most probable class first."""
    return {"predictions": [{"class": name, "probability": 1 / (1 + index)} for index, name in enumerate(classes)]}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("smiling", "Smiling"),
        ("non-smiling", "Not smiling"),
        ("no_mask", "Not mask"),
        ("n07920052 espresso", "Espresso"),
    ],
)
def test_a_label_begins_a_sentence(label: str, words: str) -> None:
    assert headline(label) == words


def test_of_two_classes_that_deny_each_other_the_positive_one_is_counted() -> None:
    smiling, serious = face("smiling", "non-smiling"), face("non-smiling", "smiling")
    assert faces_summary([smiling, serious, smiling]) == "2 of 3 smiling"
    assert faces_summary([serious, serious]) == "0 of 2 smiling"


def test_of_other_classes_each_is_counted_the_most_frequent_first() -> None:
    happy, sad = face("happy", "sad", "angry"), face("sad", "happy", "angry")
    assert faces_summary([sad, happy, sad]) == "2 sad, 1 happy"


def test_a_class_has_the_same_colour_wherever_it_comes_first() -> None:
    assert face_kind(face("smiling", "non-smiling")["predictions"]) == 1
    assert face_kind(face("non-smiling", "smiling")["predictions"]) == 0
