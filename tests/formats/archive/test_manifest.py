"""The messages and the conversion are those of Multi Model Server 1.1.11's ``ModelArchive`` and ``LegacyManifest``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidArchive
from app.formats.archive.manifest import Manifest, read_manifest
from tests.formats.archive.archives import LEGACY, MANIFEST, put


def read(folder: Path, document: object) -> Manifest:
    content = document if isinstance(document, str | bytes) else json.dumps(document)
    return read_manifest(put(folder, {"MAR-INF/MANIFEST.json": content}))


def read_legacy(folder: Path, name: str = "MANIFEST.json", **changes: Any) -> Manifest:
    return read_manifest(put(folder, {name: json.dumps({**LEGACY, **changes})}))


def test_a_manifest_of_model_archiver_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, MANIFEST)
    assert (found.model_name, found.handler, found.runtime) == ("m.1", "service:handle", "python")
    assert (found.model_version, found.engine, found.specification) == (None, None, "1.0")
    assert found.document == json.loads(MANIFEST)
    assert not found.is_legacy


def test_everything_that_may_be_said_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "runtime": "python3",
            "engine": {"engineName": "MXNet", "engineVersion": 1.2},
            "model": {"modelName": "net", "handler": "a:b", "modelVersion": "2.5", "extensions": {"x": [1]}},
            "userData": {"kept": True},
        },
    )
    assert found.runtime == "python3"
    assert (found.engine, found.engine_version, found.model_version) == ("MXNet", "1.2", "2.5")
    assert found.document is not None and found.document["userData"] == {"kept": True}


def test_a_folder_without_a_manifest_has_an_empty_one(tmp_path: Path) -> None:
    assert read_manifest(put(tmp_path, {"service.py": ""})) == Manifest(document=None)


def test_a_mark_at_the_beginning_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + MANIFEST.encode()).model_name == "m.1"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "Model name is not defined."),
        ({"model": None}, "Missing Model entry in manifest file."),
        ({"model": {}, "runtime": "ruby"}, "Runtime is not defined or invalid."),
        ({"model": {}, "runtime": "Python"}, "Runtime is not defined or invalid."),
        ({"model": {}, "runtime": None}, "Runtime is not defined or invalid."),
        ({"model": {}, "engine": {"engineVersion": "1.2"}}, "engineName is required in <engine>."),
        ({"model": 3}, "Failed to parse signature.json."),
        ({"model": {"modelName": ["a"]}}, "Failed to parse signature.json."),
        ([], "Failed to parse signature.json."),
        ("", "Failed to parse signature.json."),
        ('{"model": {', "Failed to parse signature.json."),
        (b"\xff\xfe", "Failed to parse signature.json."),
        ("[" * 100_000, "Failed to parse signature.json."),
    ],
)
def test_an_unusable_manifest_is_refused_in_the_servers_words(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(InvalidArchive) as raised:
        read(tmp_path, document)
    assert str(raised.value) == message


def test_an_old_manifest_becomes_a_new_one(tmp_path: Path) -> None:
    found = read_legacy(tmp_path)
    assert (found.model_name, found.handler) == ("smileCNN", "custom_service.py")
    assert (found.model_version, found.specification, found.runtime) == ("snapshot", "0.1", "python")
    assert (found.engine, found.engine_version) == ("MXNet", "0.12")
    assert (found.symbol, found.parameters) == ("smileCNN_model-symbol.json", "smileCNN_model-0000.params")
    assert found.document == LEGACY
    assert found.is_legacy


@pytest.mark.parametrize("version", ["1.1.0", ["int", 10100], True, None])
def test_an_old_engine_counts_only_where_its_version_is_a_number(tmp_path: Path, version: object) -> None:
    assert read_legacy(tmp_path, Engine={"MXNet": version}).engine is None


@pytest.mark.parametrize("name", ["manifest.json", "Manifest.JSON", "smileCNN/MANIFEST.json", "a/manifest.json"])
def test_an_old_manifest_is_found_in_any_case_and_one_folder_down(tmp_path: Path, name: str) -> None:
    assert read_legacy(tmp_path, name).model_name == "smileCNN"


def test_an_old_manifest_two_folders_down_is_none(tmp_path: Path) -> None:
    assert read_legacy(tmp_path, "a/b/MANIFEST.json") == Manifest()


def test_a_new_manifest_goes_before_an_old_one(tmp_path: Path) -> None:
    put(tmp_path, {"MANIFEST.json": json.dumps(LEGACY)})
    assert read(tmp_path, MANIFEST).model_name == "m.1"


def test_an_old_manifest_without_a_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"^Missing Service entry in MANIFEST\.json$"):
        read_legacy(tmp_path, Model={"Model-Name": "net"})
