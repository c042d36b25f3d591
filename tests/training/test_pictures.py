from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import DataError
from app.training.pictures import Split, part_of, read_split
from app.types import Preprocess
from tests.pictures import encode

PREPROCESS = Preprocess(color="grey", interpolation="bilinear", antialias=True, scale=1 / 255)
FOLDERS = {"negatives": 0, "positives": 1}


def write(folder: Path, count: int = 60) -> None:
    """Black pictures of class 0 and white ones of class 1, in the folders that the data set has."""
    for name, value in (("negatives/negatives7", 0), ("positives/positives7", 255)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{name[0]}{number}.png").write_bytes(encode(Image.new("L", (8, 8), value), "PNG"))


def read(source: Path) -> Split:
    return read_split(source, FOLDERS, PREPROCESS, (0, 1, 4, 4), 0.1)


def test_pictures_get_the_class_of_their_folder(tmp_path: Path) -> None:
    write(tmp_path)
    split = read(tmp_path)
    parts = (split.train, split.validation, split.test)
    assert sum(len(part.classes) for part in parts) == 120
    for part in parts:
        assert part.pictures.shape == (len(part.classes), 1, 4, 4)
        assert np.array_equal(part.pictures[:, 0, 0, 0], part.classes)  # black is 0 and white is 1


def test_a_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (tmp_path / "data").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    from_folder, from_zip = read(tmp_path / "data"), read(tmp_path / "data.zip")
    assert np.array_equal(from_folder.test.classes, from_zip.test.classes)
    assert np.array_equal(from_folder.train.pictures, from_zip.train.pictures)


def test_the_parts_have_their_shares() -> None:
    counts = Counter(part_of(f"{number}.jpg", 0.15) for number in range(20_000))
    # six standard deviations of a binomial of 20,000
    assert counts["test"] == pytest.approx(3000, abs=6 * (20_000 * 0.15 * 0.85) ** 0.5)
    assert counts["validation"] == pytest.approx(2000, abs=6 * (20_000 * 0.1 * 0.9) ** 0.5)


def test_the_part_of_a_name_is_the_same_on_every_machine() -> None:
    # the first eight bytes of sha256("abc") are ba7816bf8f01cfea (FIPS 180-2): 0.728 of 2**64
    assert part_of("abc", 0.73) == "test"
    assert part_of("abc", 0.72) == "validation"
    assert part_of("abc", 0.1) == "train"


def test_a_class_without_pictures_is_an_error(tmp_path: Path) -> None:
    write(tmp_path)
    for path in (tmp_path / "positives").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="positives"):
        read(tmp_path)


def test_a_picture_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "negatives" / "torn.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"torn\.png"):
        read(tmp_path)


def test_a_source_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"data\.zip"):
        read(tmp_path / "data.zip")
