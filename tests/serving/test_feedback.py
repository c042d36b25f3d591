from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import BadInput
from app.formats.pictures import open_pictures
from app.serving.feedback import FeedbackStore, folder_name
from app.training.transfer.run import find_classes


def test_corrections_can_be_used_directly_for_training(tmp_path: Path) -> None:
    corrections = FeedbackStore(tmp_path, 1000)
    for number in range(5):
        corrections.keep("pets", "cat", f"c{number}.jpg", b"cat")
        corrections.keep("pets", "n02110341 dalmatian, coach dog", f"d{number}.png", b"dog")
    with open_pictures(tmp_path / "pets") as source:
        found = find_classes(source, 5)
    assert found.labels == ("cat", "n02110341 dalmatian, coach dog")
    assert len(found.pictures) == 10


def test_a_picture_keeps_only_its_last_label(tmp_path: Path) -> None:
    corrections = FeedbackStore(tmp_path, 1000)
    first = corrections.keep("pets", "cat", "a.jpg", b"x")
    second = corrections.keep("pets", "dog", "a.jpg", b"x")
    assert (first.exists(), first.parent.exists(), second.read_bytes()) == (False, False, b"x")


def test_a_full_folder_accepts_no_more_and_loses_nothing(tmp_path: Path) -> None:
    corrections = FeedbackStore(tmp_path, 5)
    path = corrections.keep("pets", "cat", "a.jpg", b"1234")
    with pytest.raises(BadInput, match="No more corrections"):
        corrections.keep("pets", "dog", "a.jpg", b"12")
    assert path.read_bytes() == b"1234"


@pytest.mark.parametrize("label", ["../../etc/passwd", "..", ".hidden", "a/b", "a\\b", "\0", "", "x" * 300, "é" * 300])
def test_a_label_is_never_used_as_a_path(tmp_path: Path, label: str) -> None:
    name = folder_name(label)
    path = FeedbackStore(tmp_path, 1000).keep("pets", label, "a.jpg", b"x")
    assert path.parent.parent == tmp_path / "pets"
    assert path.resolve() == path
    with open_pictures(tmp_path / "pets") as source:
        assert source.pictures == (f"{name}/a.jpg",)
