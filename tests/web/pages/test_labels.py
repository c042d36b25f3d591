"""The wording of labels, faces and probabilities."""

from __future__ import annotations

import pytest

from app.web.pages.labels import (
    display_name,
    distinct_names,
    face_kind,
    faces_summary,
    is_unsure,
    percent,
    synonyms,
    unsure_reason,
)


def predictions(*probabilities: float) -> list[dict[str, object]]:
    return [{"class": f"class {place}", "probability": each} for place, each in enumerate(probabilities)]


def face(*classes: str) -> dict[str, list[dict[str, object]]]:
    """Return a face of an answer's document, its most probable class first."""
    return {"predictions": [{"class": name, "probability": 1 / (1 + index)} for index, name in enumerate(classes)]}


@pytest.mark.parametrize(
    ("label", "name", "others"),
    [
        ("smiling", "Smiling", ""),
        ("non-smiling", "Not smiling", ""),
        ("no_mask", "Not mask", ""),
        ("golden_retriever", "Golden retriever", ""),
        ("red, green", "Red, green", ""),
        ("n07920052 espresso", "Espresso", ""),
        (
            "n01614925 bald eagle, American eagle, Haliaeetus leucocephalus",
            "Bald eagle",
            "American eagle, Haliaeetus leucocephalus",
        ),
    ],
)
def test_a_label_is_split_into_a_name_and_synonyms(label: str, name: str, others: str) -> None:
    assert (display_name(label), synonyms(label)) == (name, others)


def test_names_shared_by_labels_are_made_distinct() -> None:
    assert distinct_names(["n02012849 crane", "n03126707 crane", "n02007558 flamingo"]) == [
        "Crane (n02012849)",
        "Crane (n03126707)",
        "Flamingo",
    ]
    assert distinct_names(["a_b", "a b"]) == ["A b (class 1)", "A b (class 2)"]


@pytest.mark.parametrize(
    ("probabilities", "unsure"),
    [
        ((0.98, 0.02), False),
        ((0.58, 0.42), True),
        ((0.62, 0.38), False),
        ((0.48, 0.2), True),
        ((0.5, 0.2), False),
        ((1.0,), False),
    ],
)
def test_an_answer_is_unsure_below_half_or_with_a_close_second(probabilities: tuple[float, ...], unsure: bool) -> None:
    assert is_unsure(predictions(*probabilities)) is unsure
    assert bool(unsure_reason(predictions(*probabilities))) is unsure


@pytest.mark.parametrize(
    ("probability", "digits", "text"),
    [(0.98765, 1, "98.8%"), (0.99999, 1, "99.9%"), (1.0, 1, "100.0%"), (0.999, 0, "99%"), (0.0004, 1, "0.0%")],
)
def test_only_a_certain_probability_is_shown_as_a_hundred_percent(probability: float, digits: int, text: str) -> None:
    assert percent(probability, digits) == text


def test_the_positive_class_of_a_negated_pair_is_counted() -> None:
    smiling, serious = face("smiling", "non-smiling"), face("non-smiling", "smiling")
    assert faces_summary([smiling, serious, smiling]) == "2 of 3 smiling"
    assert faces_summary([serious, serious]) == "0 of 2 smiling"


def test_other_classes_are_counted_by_descending_frequency() -> None:
    happy, sad = face("happy", "sad", "angry"), face("sad", "happy", "angry")
    assert faces_summary([sad, happy, sad]) == "2 sad, 1 happy"


def test_a_class_always_has_the_same_colour() -> None:
    assert face_kind(face("smiling", "non-smiling")["predictions"]) == 1
    assert face_kind(face("non-smiling", "smiling")["predictions"]) == 0
