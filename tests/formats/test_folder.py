from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import ModelFormatError
from app.formats.folder import is_model_folder, open_model_folder

SIGNATURE = json.dumps({"inputs": [{"data_name": "data", "data_shape": [0, 3, 8, 8]}]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cats"
    path.mkdir()
    (path / "signature.json").write_text(SIGNATURE)
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_a_checkpoint_takes_its_latest_epoch(folder: Path) -> None:
    touch(folder, "net-symbol.json", "net-0009.params", "net-0010.params", "other-0099.params")
    checkpoint = open_model_folder(folder).checkpoint
    assert checkpoint is not None
    assert (checkpoint.symbol.name, checkpoint.params.name) == ("net-symbol.json", "net-0010.params")


def test_a_folder_may_hold_both_kinds_of_weights(folder: Path) -> None:
    touch(folder, "net-symbol.json", "net-0000.params", "net.h5")
    found = open_model_folder(folder)
    assert found.checkpoint is not None
    assert found.h5 == folder / "net.h5"


def test_the_manifest_gives_the_version_and_the_folder_the_name(folder: Path) -> None:
    touch(folder, "net.h5")
    (folder / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "tigers", "modelVersion": "2.5"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    assert (open_model_folder(folder).name, open_model_folder(folder).version) == ("cats", "2.5")


def test_without_a_manifest_the_version_is_one(folder: Path) -> None:
    touch(folder, "net.h5")
    assert open_model_folder(folder).version == "1.0"


def test_labels_are_one_a_line_whatever_the_line_ends_with(folder: Path) -> None:
    touch(folder, "net.h5")
    (folder / "synset.txt").write_bytes("n1 cat, Katze\r\nn2 größer\n\n".encode())
    assert open_model_folder(folder).labels == ("n1 cat, Katze", "n2 größer")


def test_without_labels_there_are_none(folder: Path) -> None:
    touch(folder, "net.h5")
    assert open_model_folder(folder).labels is None


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([], "no weights"),
        (["net-symbol.json"], r"net-0000\.params"),
        (["net-symbol.json", "other-0000.params"], r"net-0000\.params"),
        (["a.h5", "b.h5"], r"a\.h5, b\.h5"),
        (["a-symbol.json", "b-symbol.json"], "more than one"),
    ],
)
def test_files_that_leave_the_weights_open_are_refused(folder: Path, files: list[str], named: str) -> None:
    touch(folder, *files)
    with pytest.raises(ModelFormatError, match=named):
        open_model_folder(folder)


def test_a_name_that_no_address_can_carry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my cats"
    path.mkdir()
    touch(path, "net.h5")
    with pytest.raises(ModelFormatError, match="my cats"):
        open_model_folder(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_a_broken_manifest_is_refused(folder: Path, content: str) -> None:
    touch(folder, "net.h5")
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_text(content)
    with pytest.raises(ModelFormatError, match="MANIFEST"):
        open_model_folder(folder)


def test_only_folders_with_a_model_look_like_one(folder: Path) -> None:
    assert not is_model_folder(folder)
    touch(folder, "net.h5")
    assert is_model_folder(folder)
    assert not is_model_folder(folder / "net.h5")
    hidden = folder.parent / ".cats"
    folder.rename(hidden)
    assert not is_model_folder(hidden)
