from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.engines.base import Parity
from app.engines.cache import MAX_ENTRIES, Record, key_of, prune, read_entry, write_entry
from app.formats.folder import Checkpoint, ModelFolder
from app.formats.inference import Inference
from app.types import Postprocess, Preprocess, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("data", (0, 3, 8, 8)),), (TensorSpec("softmax", (0, 5)),))


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    checkpoint = Checkpoint(tmp_path / "net-symbol.json", tmp_path / "net-0000.params")
    checkpoint.symbol.write_bytes(b"symbol")
    checkpoint.params.write_bytes(b"params")
    return ModelFolder(tmp_path, "net", "1.0", SIGNATURE, None, checkpoint, None)


def entry(cache: Path, name: str, record: Record, age: float = 0.0) -> Path:
    path = cache / name
    path.mkdir(parents=True)
    if not record.reason:
        (path / "model.xml").write_text("<net/>")
        (path / "model.bin").write_bytes(bytes(100))
    write_entry(path, record, None)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_written_entry_is_read_back(tmp_path: Path) -> None:
    record = Record("models/net", parity=Parity(1e-7, 14, "mxnet", "2026-11-21T15:08:22+00:00"), milliseconds=4.25)
    found = read_entry(entry(tmp_path, "key", record))
    assert found is not None and found.inference is None
    assert replace(found.record, files={}) == record
    (tmp_path / "key" / "record.json").unlink()
    inference = Inference(SIGNATURE, {"pixels": "why"}, ("größer", "b"), True)
    write_entry(tmp_path / "key", record, inference)
    found = read_entry(tmp_path / "key")
    assert found is not None and found.inference == inference


def shorten_record(path: Path) -> None:
    (path / "record.json").write_bytes((path / "record.json").read_bytes()[:50])


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: (path / "model.bin").unlink(),
        lambda path: (path / "model.bin").write_bytes(bytes(99)),
        lambda path: (path / "model.bin").write_bytes(bytes(99) + b"\1"),
        lambda path: (path / "model.xml").write_text("<not/>"),
        lambda path: (path / "record.json").unlink(),
        lambda path: (path / "record.json").write_text("[]"),
        lambda path: (path / "record.json").write_text('{"model": "x", "parity": null, "files": {}}'),
        shorten_record,
    ],
)
def test_a_damaged_entry_is_ignored(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = entry(tmp_path, "key", Record("net"))
    assert read_entry(path) is not None
    harm(path)
    assert read_entry(path) is None


def test_the_key_depends_on_everything_that_affects_the_result(folder: ModelFolder) -> None:
    keys = [key_of(folder, "mxnet")]
    assert key_of(replace(folder, name="other", version="2.0"), "mxnet") == keys[0]
    stated = replace(folder, stated=frozenset({"preprocess"}))
    by_hand = replace(stated, signature=replace(SIGNATURE, postprocess=Postprocess("softmax")))
    assert key_of(by_hand, "mxnet") == key_of(stated, "mxnet")  # the network is the same
    keys.append(key_of(replace(stated, signature=replace(SIGNATURE, preprocess=Preprocess("bgr"))), "mxnet"))
    assert folder.checkpoint is not None
    for file in (folder.checkpoint.symbol, folder.checkpoint.params):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"!")
        keys.append(key_of(folder, "mxnet"))
        file.write_bytes(whole)
    assert len(set(keys)) == 4
    assert key_of(folder, "mxnet") == keys[0]


def test_only_older_entries_of_the_same_model_are_removed(tmp_path: Path) -> None:
    old, other = entry(tmp_path, "old", Record("net")), entry(tmp_path, "other", Record("other"))
    exact = entry(tmp_path, "int8", Record("net", precision="int8"))
    newest = entry(tmp_path, "new", Record("net"))
    prune(tmp_path, newest)
    assert not old.exists()
    assert newest.exists() and other.exists() and exact.exists()


def test_the_least_recently_used_entries_beyond_the_limit_are_removed(tmp_path: Path) -> None:
    paths = [entry(tmp_path, f"key{age}", Record(f"net{age}", reason="…"), age) for age in range(MAX_ENTRIES + 3)]
    newest = entry(tmp_path, "newest", Record("newest"), age=10_000)
    prune(tmp_path, newest)
    assert [path for path in paths if not path.exists()] == paths[MAX_ENTRIES - 1 :]
    assert newest.exists()


def test_an_entry_that_is_read_counts_as_used(tmp_path: Path) -> None:
    path = entry(tmp_path, "key", Record("net"), age=1000)
    read_entry(path)
    assert time.time() - path.stat().st_mtime < 500


def test_files_of_a_killed_build_are_removed_after_a_day(tmp_path: Path) -> None:
    newest = entry(tmp_path, "newest", Record("net"))
    for name, hours in ((".building-1", 25), (".building-2", 23)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - hours * 3600,) * 2)
    prune(tmp_path, newest)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".building-2", "newest"]
