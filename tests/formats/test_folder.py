from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import InvalidArchive, ModelFormatError
from app.formats.folder import is_model_folder, open_model_folder
from tests.formats.archive.archives import put

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


def test_the_latest_epoch_of_a_checkpoint_is_used(folder: Path) -> None:
    touch(folder, "net-symbol.json", "net-0009.params", "net-0010.params", "other-0099.params")
    checkpoint = open_model_folder(folder).checkpoint
    assert checkpoint is not None
    assert (checkpoint.symbol.name, checkpoint.params.name) == ("net-symbol.json", "net-0010.params")


def test_a_folder_may_hold_both_kinds_of_weights(folder: Path) -> None:
    touch(folder, "net-symbol.json", "net-0000.params", "net.h5")
    found = open_model_folder(folder)
    assert found.checkpoint is not None
    assert found.h5 == folder / "net.h5"


def test_the_version_is_from_the_manifest_and_the_name_from_the_folder(folder: Path) -> None:
    touch(folder, "net.h5")
    (folder / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "tigers", "modelVersion": "2.5"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    assert (open_model_folder(folder).name, open_model_folder(folder).version) == ("cats", "2.5")


def test_the_version_without_a_manifest_is_one(folder: Path) -> None:
    touch(folder, "net.h5")
    assert open_model_folder(folder).version == "1.0"


def test_labels_are_one_per_line_with_any_line_ending(folder: Path) -> None:
    touch(folder, "net.h5")
    (folder / "synset.txt").write_bytes("n1 cat, Katze\r\nn2 größer\n\n".encode())
    assert open_model_folder(folder).labels == ("n1 cat, Katze", "n2 größer")


def test_a_folder_without_a_label_file_has_no_labels(folder: Path) -> None:
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
def test_a_folder_with_ambiguous_weights_is_refused(folder: Path, files: list[str], named: str) -> None:
    touch(folder, *files)
    with pytest.raises(ModelFormatError, match=named):
        open_model_folder(folder)


def test_a_name_that_does_not_fit_into_a_url_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my cats"
    path.mkdir()
    touch(path, "net.h5")
    with pytest.raises(ModelFormatError, match="my cats"):
        open_model_folder(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_a_broken_manifest_is_refused(folder: Path, content: str) -> None:
    touch(folder, "net.h5")
    put(folder, {"MAR-INF/MANIFEST.json": content})
    with pytest.raises(
        InvalidArchive, match=r"^Failed to parse signature\.json\.$"
    ):  # the message of MMS; it means this file
        open_model_folder(folder)


def test_a_manifest_without_a_handler_is_valid_if_there_are_weights(folder: Path) -> None:
    put(folder, {"MAR-INF/MANIFEST.json": '{"model": {"modelName": "cats"}}'})
    with pytest.raises(InvalidArchive, match=r"^Model handler is not defined\.$"):
        open_model_folder(folder)
    touch(folder, "net.h5")
    assert open_model_folder(folder).h5 == folder / "net.h5"


CHECKPOINTS = ("pre-symbol.json", "pre-0000.params", "pre-0003.params", "other-symbol.json", "other-0009.params")


@pytest.mark.parametrize(
    ("parameters", "epoch"),
    # 0.4 reads the epoch after the model's name, and takes 0 if the parameters have another name
    [("cats-0003.params", 3), ("pre-0003.params", 0), ("cats.params", 0)],
)
def test_an_old_archive_names_its_symbol_and_its_epoch(folder: Path, parameters: str, epoch: int) -> None:
    touch(folder, *CHECKPOINTS)
    model = {"Model-Name": "cats", "Symbol": "pre-symbol.json", "Parameters": parameters, "Service": "s.py"}
    put(folder, {"MANIFEST.json": json.dumps({"Model": model})})
    found = open_model_folder(folder)
    assert found.checkpoint is not None
    assert (found.checkpoint.symbol.name, found.checkpoint.params.name) == ("pre-symbol.json", f"pre-000{epoch}.params")
    assert (found.version, found.legacy) == ("snapshot", True)


def test_a_new_archive_is_loaded_by_its_name_at_epoch_zero_as_by_mms(folder: Path) -> None:
    touch(folder, *CHECKPOINTS)
    put(folder, {"MAR-INF/MANIFEST.json": '{"model": {"modelName": "pre", "handler": "mxnet_vision_service:handle"}}'})
    found = open_model_folder(folder)
    assert found.checkpoint is not None
    assert (found.checkpoint.symbol.name, found.checkpoint.params.name) == ("pre-symbol.json", "pre-0000.params")
    assert (found.version, found.legacy) == ("1.0", False)


def test_the_only_checkpoint_is_used_if_the_named_one_is_missing(folder: Path) -> None:
    touch(folder, "net-symbol.json", "net-0007.params")
    model = {"Model-Name": "cats", "Symbol": "net-symbol.json", "Parameters": "net-0007.params", "Service": "s.py"}
    put(folder, {"MANIFEST.json": json.dumps({"Model": model})})
    found = open_model_folder(folder).checkpoint
    assert found is not None
    assert found.params.name == "net-0007.params"


def test_an_unpacked_old_archive_with_own_code_is_a_model_folder(tmp_path: Path) -> None:
    assert is_model_folder(put(tmp_path / "old", {"MANIFEST.json": "{}", "service.py": ""}))


def test_only_folders_with_a_model_are_model_folders(folder: Path) -> None:
    assert not is_model_folder(folder)
    touch(folder, "net.h5")
    assert is_model_folder(folder)
    assert not is_model_folder(folder / "net.h5")
    hidden = folder.parent / ".cats"
    folder.rename(hidden)
    assert not is_model_folder(hidden)
