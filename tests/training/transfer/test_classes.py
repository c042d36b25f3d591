from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from app.errors import DataError
from app.formats.pictures import open_pictures
from app.training.transfer.classes import find_classes


def fill(folder: Path, **counts: int) -> Path:
    """Empty files that have pictures' names: nobody reads them here."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.jpg").touch()
    return folder


def refusal(path: Path, folds: int = 5) -> str:
    with open_pictures(path) as source, pytest.raises(DataError) as error:
        find_classes(source, folds)
    return str(error.value)


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    with open_pictures(fill(tmp_path, cat=5, ant=6)) as source:
        found = find_classes(source, 5)
    assert found.labels == ("ant", "cat")
    assert [number for _, number in found.pictures] == [0] * 6 + [1] * 5
    assert found.pictures[6] == ("cat/0.jpg", 1)


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    assert "one class only, 'cat'" in refusal(fill(tmp_path, cat=9))


def test_an_empty_class_and_a_small_one_are_named_with_their_counts(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, ant=0, bee=4, cat=5))
    assert "'ant' (none), 'bee' (4)." in said
    assert "cat" not in said


def test_more_folds_than_pictures_of_a_class_are_refused(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, ant=7, bee=20), folds=8)
    assert "'ant' (7)" in said
    assert "--folds 7" in said


def test_many_small_classes_are_not_all_listed(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, **{f"class{number:04}": 1 for number in range(30)}))
    assert "and 25 more classes" in said


def test_folders_that_differ_by_spaces_or_by_the_way_accents_are_written_clash(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path / "spaces", **{"cat": 5, "cat ": 5}))
    assert "'cat' and 'cat '" in said
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert "both name the class 'caf\u00e9'" in refusal(fill(tmp_path / "accents", **{composed: 5, decomposed: 5}))


def test_a_folder_whose_name_breaks_lines_cannot_name_a_class(tmp_path: Path) -> None:
    assert "'a\\nb'" in refusal(fill(tmp_path, **{"a\nb": 5, "c": 5}))


def test_pictures_outside_of_any_class_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, ant=5, bee=5)
    (tmp_path / "stray.jpg").touch()
    assert "stray.jpg" in refusal(tmp_path)


def test_more_than_a_thousand_classes_pass_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(1_200):
            for picture in range(5):
                archive.writestr(f"all/class{number:04}/{picture}.jpg", b"")
    with open_pictures(tmp_path / "many.zip") as source:
        found = find_classes(source, 5)
    assert len(found.labels) == 1_200
    assert len(found.pictures) == 6_000
