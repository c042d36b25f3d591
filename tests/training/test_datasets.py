from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import DataError
from app.settings import ROOT
from app.training.datasets import PARTS, Dataset, DataSpec, load, part_of, prepare, read_all, split
from app.types import Preprocess
from tests.pictures import encode


def test_the_split_of_a_name_is_the_same_on_every_machine() -> None:
    # the first eight bytes of sha256("abc") are ba7816bf8f01cfea (FIPS 180-2): 0.728 of 2**64
    assert part_of("abc", 0.73) == "test"
    assert part_of("abc", 0.72) == "validation"
    assert part_of("abc", 0.1) == "train"


def test_the_splits_have_their_shares() -> None:
    counts = Counter(part_of(f"{number}.jpg", 0.15) for number in range(20_000))
    # six standard deviations of a binomial of 20,000
    assert counts["test"] == pytest.approx(3000, abs=6 * (20_000 * 0.15 * 0.85) ** 0.5)
    assert counts["validation"] == pytest.approx(2000, abs=6 * (20_000 * 0.1 * 0.9) ** 0.5)


def test_the_folders_of_a_name_do_not_affect_its_split() -> None:
    # sha256("") begins with e3b0c442 (0.889), sha256("abc") with ba7816bf (0.728): FIPS 180-2
    assert split(["x/abc", "abc"], [], 0.73) == ("test", "test")


def test_a_group_takes_the_split_of_its_alphabetically_first_file_name() -> None:
    names = [f"{number}.jpg" for number in range(40)]
    alone = split(names, [], 0.4)
    sides = {part: alone.index(part) for part in ("train", "test")}
    first, last = sorted(sides.values(), key=lambda row: names[row])
    assert alone[first] != alone[last]
    for group in ([first, last], [last, first]):
        together = split(names, [group], 0.4)
        assert together[first] == together[last] == alone[first]
        others = [row for row in range(40) if row not in group]
        assert [together[row] for row in others] == [alone[row] for row in others]


def test_groups_are_sorted_by_file_names_without_folders() -> None:
    # "abc" is at 0.728; "abd" takes the same split, though its folder comes first
    assert split(["a/abd", "z/abc"], [[0, 1]], 0.73) == ("test", "test")
    assert split(["a/abd", "z/abc"], [[0, 1]], 0.1) == ("train", "train")


def test_a_name_that_is_not_utf8_has_a_split_too() -> None:
    assert part_of("caf\udce9.jpg", 0.5) in {"train", "validation", "test"}


GREY = Preprocess(color="grey", interpolation="bilinear", antialias=True, scale=1 / 255)
RGB = Preprocess(layout="NHWC", interpolation="bilinear", antialias=True)
FOLDERS = {"negatives": 0, "positives": 1}
SPEC = DataSpec("faces", FOLDERS, ("sad", "glad"), {"8x8": (GREY, (0, 1, 8, 8)), "5x4": (RGB, (0, 5, 4, 3))}, 0.2)
COUNT = 60


def pixels(number: int, bright: bool) -> NDArray[np.uint8]:
    """Return noise, dark (0-99) or bright (150-249), that differs for every number."""
    return np.random.default_rng([number, bright]).integers(0, 100, (8, 8)).astype(np.uint8) + np.uint8(150 * bright)


def write(folder: Path, count: int = COUNT) -> Path:
    """Write dark pictures of class 0 and bright pictures of class 1, in the folders that SMILEsmileD has."""
    for name, bright in (("negatives/negatives7", False), ("positives/positives7", True)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{name[0]}{number}.png").write_bytes(png(pixels(number, bright)))
    return folder


def png(values: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(values), "PNG")


def pack(folder: Path, path: Path) -> Path:
    """Return a zip of the folder, in no particular order."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png"), key=lambda file: file.name[::-1]):
            archive.write(file, file.relative_to(folder.parent))
    return path


def inputs(dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    return {key: np.array(array) for key, array in dataset.arrays.items()}


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "faces" / "prepared").iterdir()}


def test_every_picture_is_in_one_split_with_its_pixels_and_class(tmp_path: Path) -> None:
    dataset = prepare(SPEC, write(tmp_path / "data"), tmp_path / "work")
    seen = []
    for name in PARTS:
        grey, rgb = dataset.part(name, "8x8"), dataset.part(name, "5x4")
        assert grey.pictures.dtype == rgb.pictures.dtype == np.float32
        assert rgb.pictures.shape == (len(rgb.names), 5, 4, 3)
        assert grey.names == rgb.names
        for picture, number, path in zip(grey.pictures, grey.classes, grey.names, strict=True):
            folder, file = path.split("/")[0], path.split("/")[-1]
            assert number == FOLDERS[folder]
            assert part_of(file, 0.2) == name
            expected = pixels(int(file[1:-4]), bool(number))
            assert picture[0] * 255 == pytest.approx(expected, abs=1e-3)
        seen += grey.names
    assert len(seen) == len(set(seen)) == 2 * COUNT


def test_a_zip_gives_the_same_data_as_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / "negatives" / "negatives7-more").mkdir()  # sorts before its neighbour by name, and after it by folder
    (folder / "negatives" / "negatives7-more" / "a.png").write_bytes(png(pixels(1000, False)))
    one = prepare(SPEC, folder, tmp_path / "one")
    other = prepare(SPEC, pack(folder, tmp_path / "data.zip"), tmp_path / "other")
    assert other.names == tuple(f"data/{name}" for name in one.names)
    assert other.parts == one.parts
    assert np.array_equal(other.classes, one.classes)
    for key, array in inputs(one).items():
        assert np.array_equal(inputs(other)[key], array)


def test_a_url_is_fetched_once_and_cached(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "data"), tmp_path / "data.zip")
    prepare(SPEC, archive.as_uri(), tmp_path / "work")
    (cached,) = (tmp_path / "work" / "faces").glob("*.zip")
    assert cached.read_bytes() == archive.read_bytes()
    archive.unlink()
    dataset = prepare(replace(SPEC, test=0.3), archive.as_uri(), tmp_path / "work")
    assert len(dataset.names) == 2 * COUNT


def test_a_download_that_is_not_a_zip_is_not_cached(tmp_path: Path) -> None:
    page = tmp_path / "data.zip"
    page.write_text("<html>Come back tomorrow</html>")
    with pytest.raises(DataError, match=page.as_uri()):
        prepare(SPEC, page.as_uri(), tmp_path / "work")
    page.unlink()
    pack(write(tmp_path / "data"), page)
    assert len(prepare(SPEC, page.as_uri(), tmp_path / "work").names) == 2 * COUNT


def test_the_same_pictures_are_not_prepared_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "data")
    prepare(SPEC, folder, tmp_path / "work")
    before = written(tmp_path / "work")
    assert "already" not in capsys.readouterr().err
    prepare(SPEC, folder, tmp_path / "work")
    assert written(tmp_path / "work") == before
    assert "already prepared" in capsys.readouterr().err


def test_changed_pictures_are_prepared_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    prepare(SPEC, folder, tmp_path / "work")
    (folder / "negatives" / "negatives7" / "n0.png").write_bytes(png(pixels(2000, False)))
    dataset = prepare(SPEC, folder, tmp_path / "work")
    row = dataset.names.index("negatives/negatives7/n0.png")
    assert dataset.arrays["8x8"][row, 0] * 255 == pytest.approx(pixels(2000, False), abs=1e-3)


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, inputs={"8x8": SPEC.inputs["8x8"]}),
        replace(SPEC, inputs=SPEC.inputs | {"8x8": (replace(GREY, scale=1), (0, 1, 8, 8))}),
        replace(SPEC, test=0.3),
        replace(SPEC, folders={"negatives": 1, "positives": 0}),
    ],
    ids=["fewer inputs", "another scale", "another share", "other classes"],
)
def test_data_prepared_with_other_options_are_prepared_again(tmp_path: Path, spec: DataSpec) -> None:
    folder = write(tmp_path / "data")
    prepare(SPEC, folder, tmp_path / "work")
    again = prepare(spec, folder, tmp_path / "work")
    afresh = prepare(spec, folder, tmp_path / "elsewhere")
    assert again.parts == afresh.parts
    assert np.array_equal(again.classes, afresh.classes)
    assert set(again.arrays) == set(spec.inputs)
    for key, array in inputs(afresh).items():
        assert np.array_equal(inputs(again)[key], array)


def test_prepared_data_are_loaded_without_their_source(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    prepared = prepare(SPEC, folder, tmp_path / "work")
    folder.rename(tmp_path / "away")
    loaded = load("faces", tmp_path / "work")
    assert loaded is not None
    assert loaded.source == str(folder)
    assert (loaded.names, loaded.parts) == (prepared.names, prepared.parts)
    assert np.array_equal(loaded.part("test", "8x8").pictures, prepared.part("test", "8x8").pictures)


def test_nothing_is_loaded_if_nothing_was_prepared(tmp_path: Path) -> None:
    assert load("faces", tmp_path) is None


@pytest.mark.parametrize("name", ["input-8x8.npy", "classes.npy", "index.json"])
@pytest.mark.parametrize("keep", [0, 0.7])
def test_a_damaged_file_is_prepared_again(tmp_path: Path, name: str, keep: float) -> None:
    folder = write(tmp_path / "data")
    expected = inputs(prepare(SPEC, folder, tmp_path / "work"))["8x8"]
    path = tmp_path / "work" / "faces" / "prepared" / name
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    assert load("faces", tmp_path / "work") is None
    assert np.array_equal(inputs(prepare(SPEC, folder, tmp_path / "work"))["8x8"], expected)


def test_an_unreadable_picture_is_named_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "data")
    torn = folder / "negatives" / "negatives7" / "n7.png"
    torn.write_bytes(torn.read_bytes()[:60])
    dataset = prepare(SPEC, folder, tmp_path / "work")
    assert "negatives/negatives7/n7.png" in capsys.readouterr().err
    assert dataset.unreadable == ("negatives/negatives7/n7.png",)
    assert len(dataset.names) == len(dataset.classes) == len(dataset.arrays["8x8"]) == 2 * COUNT - 1
    for row, name in enumerate(dataset.names):  # those behind it have moved up
        folder_name, file = name.split("/")[0], name.split("/")[-1]
        expected = pixels(int(file[1:-4]), folder_name == "positives")
        assert dataset.arrays["8x8"][row, 0] * 255 == pytest.approx(expected, abs=1e-3)


def test_more_than_one_percent_unreadable_pictures_are_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    for number in (3, 4):
        (folder / "negatives" / "negatives7" / f"n{number}.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"1 %.*n4\.png"):
        prepare(SPEC, folder, tmp_path / "work")
    assert [path.name for path in (tmp_path / "work" / "faces").iterdir()] == [".lock"]


def test_a_class_without_pictures_is_an_error_with_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    for path in (folder / "positives").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="positives"):
        prepare(SPEC, folder, tmp_path / "work")


def test_a_class_without_pictures_in_a_split_is_an_error_with_the_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    for path in (folder / "positives").rglob("*.png"):
        if part_of(path.name, 0.2) == "validation":
            path.unlink()
    with pytest.raises(DataError, match=r"validation.*positives"):
        prepare(SPEC, folder, tmp_path / "work")


def test_the_last_known_folder_determines_the_class(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "positives")
    (tmp_path / "data" / "loose.png").write_bytes(png(pixels(0, False)))
    part = read_all(folder.parent, FOLDERS, GREY, (0, 1, 8, 8))
    assert len(part.names) == 2 * COUNT
    for picture, number in zip(part.pictures, part.classes, strict=True):
        assert (picture.mean() * 255 > 125) == number


def test_only_the_train_folder_is_used_if_there_is_a_validation_folder(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train")
    write(tmp_path / "data" / "validation")
    both = prepare(SPEC, tmp_path / "data", tmp_path / "work")
    one = prepare(replace(SPEC, within="train"), tmp_path / "data", tmp_path / "work")
    assert (len(both.names), len(one.names)) == (4 * COUNT, 2 * COUNT)
    assert {Path(name).parts[0] for name in one.names} == {"train"}
    bare = prepare(replace(SPEC, within="train"), tmp_path / "data" / "train", tmp_path / "work")
    assert len(bare.names) == 2 * COUNT


def test_duplicates_stay_in_one_split_and_contradictions_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "data")
    names = {part: next(f"n{n}.png" for n in range(COUNT) if part_of(f"n{n}.png", 0.2) == part) for part in PARTS}
    original = folder / "negatives" / "negatives7" / names["test"]
    copy = next(f"z{number}.png" for number in range(99) if part_of(f"z{number}.png", 0.2) == "train")
    (folder / "positives" / copy).write_bytes(original.read_bytes())
    same = folder / "negatives" / "negatives7" / names["train"]
    twin = next(f"z{number}.png" for number in range(99) if part_of(f"z{number}.png", 0.2) == "test")
    (same.parent / twin).write_bytes(same.read_bytes())

    dataset = prepare(SPEC, folder, tmp_path / "work")
    part = {name.split("/")[-1]: part for name, part in zip(dataset.names, dataset.parts, strict=True)}
    assert part[copy] == part[original.name] == "test"
    assert part[twin] == part[same.name] == "train"
    assert "2 groups of near-identical pictures, each kept in one part; 1 of them labelled both ways" in (
        capsys.readouterr().err
    )


def test_the_counts_are_reported_beside_those_of_the_published_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "data", 60)
    prepare(replace(SPEC, published={"sad": 1000, "glad": 500}), folder, tmp_path / "work")
    assert "120 pictures: 60 sad, 60 glad; the published set has 1,500\n" in capsys.readouterr().err
    prepare(replace(SPEC, published={"sad": 60, "glad": 60}), folder, tmp_path / "work")
    assert "120 pictures: 60 sad, 60 glad\n" in capsys.readouterr().err


def test_a_source_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"data\.zip"):
        prepare(SPEC, tmp_path / "data.zip", tmp_path / "work")


def test_an_unwritable_folder_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("no folder")
    with pytest.raises(DataError, match="work/faces"):
        prepare(SPEC, write(tmp_path / "data"), tmp_path / "work")


PREPARING = """
import sys
from pathlib import Path
from tests.training.test_datasets import SPEC, prepare
prepare(SPEC, sys.argv[1], Path(sys.argv[2]))
"""


def preparing(source: Path, work: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARING, str(source), str(work)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_until_read(pipe: Path) -> None:
    """Wait until a process reads the named pipe; none does before all pictures ahead of it are read."""
    opening = threading.Thread(target=lambda: os.open(pipe, os.O_WRONLY), daemon=True)
    opening.start()
    opening.join(60)
    assert not opening.is_alive()


def test_a_run_after_a_killed_one_prepares_the_data(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    pipe = folder / "positives" / "positives7" / "p30.png"
    pipe.unlink()
    os.mkfifo(pipe)
    with preparing(folder, tmp_path / "work") as process:
        wait_until_read(pipe)
        process.send_signal(signal.SIGKILL)
    assert load("faces", tmp_path / "work") is None
    pipe.unlink()
    pipe.write_bytes(png(pixels(30, True)))
    expected = prepare(SPEC, folder, tmp_path / "elsewhere")
    again = prepare(SPEC, folder, tmp_path / "work")
    assert np.array_equal(inputs(again)["8x8"], inputs(expected)["8x8"])
    assert sorted(path.name for path in (tmp_path / "work" / "faces").iterdir()) == [".lock", "prepared"]


def test_one_of_two_concurrent_processes_prepares_and_the_other_waits(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    with preparing(folder, tmp_path / "work") as one, preparing(folder, tmp_path / "work") as other:
        outputs = [process.communicate(timeout=60)[1] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs
    assert sorted("already prepared" in text for text in outputs) == [False, True]


def test_reading_all_gives_every_picture_without_splitting(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    part = read_all(pack(folder, tmp_path / "data.zip"), FOLDERS, GREY, (0, 1, 8, 8))
    assert part.pictures.shape == (2 * COUNT, 1, 8, 8)
    assert part.names[0] == "data/negatives/negatives7/n0.png"
    assert part.pictures[0, 0] * 255 == pytest.approx(pixels(0, False), abs=1e-3)
    assert np.bincount(part.classes).tolist() == [COUNT, COUNT]


def test_reading_all_of_a_class_without_pictures_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with pytest.raises(DataError, match="smiling"):
        read_all(tmp_path / "data", {"negatives": 0, "smiling": 1}, GREY, (0, 1, 8, 8))
