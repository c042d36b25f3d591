from __future__ import annotations

import pytest

from app.errors import DataError
from app.formats.classes import match_classes

IMAGENET = (
    "n01440764 tench, Tinca tinca",
    "n02012849 crane",
    "n02123045 tabby, tabby cat",
    "n03126707 crane",
    "n03445777 golf ball",
    "n02871525 bookshop, bookstore, bookstall",
)


@pytest.mark.parametrize("folder", ["cat", "CAT", "Cats", "cats"])
def test_a_label_matches_in_any_case_and_in_the_plural(folder: str) -> None:
    assert match_classes([folder, "dog"], ("cat", "dog")) == {folder: 0, "dog": 1}


@pytest.mark.parametrize(
    ("folder", "label"),
    [("fox", "foxes"), ("foxes", "fox"), ("butterflies", "butterfly"), ("benches", "bench"), ("buses", "bus")],
)
def test_irregular_plurals_are_known(folder: str, label: str) -> None:
    assert match_classes([folder], ("x", label)) == {folder: 1}


def test_an_exact_match_takes_precedence_over_a_similar_label() -> None:
    assert match_classes(["cats", "cat", "Cat"], ("Cat", "cat", "cats")) == {"cats": 2, "cat": 1, "Cat": 0}


def test_a_word_ending_in_double_s_is_not_a_plural() -> None:
    with pytest.raises(DataError, match="'glas' is none of"):
        match_classes(["glas"], ("cat", "glass"))


@pytest.mark.parametrize(
    "folder", ["n02123045", "n02123045 tabby, tabby cat", "n02123045-tabby", "tabby", "Tabby_Cat", "tabby cats"]
)
def test_an_imagenet_label_matches_its_id_and_each_of_its_names(folder: str) -> None:
    assert match_classes([folder], IMAGENET) == {folder: 2}


def test_two_classes_with_one_name_are_distinguished_by_id() -> None:
    assert match_classes(["n03126707"], IMAGENET) == {"n03126707": 3}
    with pytest.raises(DataError, match=r"n02012849 crane.*n03126707 crane.*--classes 'crane=LABEL'"):
        match_classes(["crane"], IMAGENET)


def test_folders_can_be_mapped_explicitly_and_two_to_one_class() -> None:
    given = {"positives": "smiling", "grins": "smiling", "negatives": "non-smiling"}
    found = match_classes(["positives", "grins", "negatives"], ("non-smiling", "smiling"), given)
    assert found == {"positives": 1, "grins": 1, "negatives": 0}


def test_a_mapping_takes_precedence_over_the_folder_name() -> None:
    assert match_classes(["cat"], ("cat", "dog"), {"cat": "dog"}) == {"cat": 1}


def test_an_unknown_folder_is_reported_with_ten_labels_and_the_number_of_others() -> None:
    labels = [f"class {number}" for number in range(1000)]
    with pytest.raises(DataError, match=r"'unicorn'.* class 9 and 990 more\.") as caught:
        match_classes(["class 1", "unicorn"], labels)
    assert "class 10" not in str(caught.value)


def test_a_mapping_to_an_unknown_class_or_from_an_unknown_folder_is_an_error() -> None:
    with pytest.raises(DataError, match="cats=lion"):
        match_classes(["cats"], ("cat", "dog"), {"cats": "lion"})
    with pytest.raises(DataError, match=r"no folder 'katzen'.*There are: cats"):
        match_classes(["cats"], ("cat", "dog"), {"katzen": "cat"})
