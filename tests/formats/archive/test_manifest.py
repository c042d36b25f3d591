from __future__ import annotations

import json
import json.decoder
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidArchive
from app.formats.archive.manifest import Manifest, find_handler, named_checkpoint, read_manifest
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


def test_every_field_is_read(tmp_path: Path) -> None:
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


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
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
def test_an_unusable_manifest_is_refused_with_the_message_of_mms(
    tmp_path: Path, document: object, message: str
) -> None:
    with pytest.raises(InvalidArchive) as raised:
        read(tmp_path, document)
    assert str(raised.value) == message


def test_an_old_manifest_is_converted_to_the_new_form(tmp_path: Path) -> None:
    found = read_legacy(tmp_path)
    assert (found.model_name, found.handler) == ("smileCNN", "custom_service.py")
    assert (found.model_version, found.specification, found.runtime) == ("snapshot", "0.1", "python")
    assert (found.engine, found.engine_version) == ("MXNet", "0.12")
    assert (found.symbol, found.parameters) == ("smileCNN_model-symbol.json", "smileCNN_model-0000.params")
    assert found.document == LEGACY
    assert found.is_legacy


@pytest.mark.parametrize("version", ["1.1.0", ["int", 10100], True, None])
def test_an_old_engine_is_ignored_unless_its_version_is_a_number(tmp_path: Path, version: object) -> None:
    assert read_legacy(tmp_path, Engine={"MXNet": version}).engine is None


@pytest.mark.parametrize("name", ["manifest.json", "Manifest.JSON", "smileCNN/MANIFEST.json", "a/manifest.json"])
def test_an_old_manifest_is_found_in_any_case_and_in_a_subfolder(tmp_path: Path, name: str) -> None:
    assert read_legacy(tmp_path, name).model_name == "smileCNN"


def test_an_old_manifest_two_folders_down_is_ignored(tmp_path: Path) -> None:
    assert read_legacy(tmp_path, "a/b/MANIFEST.json") == Manifest()


def test_a_new_manifest_takes_precedence_over_an_old_one(tmp_path: Path) -> None:
    put(tmp_path, {"MANIFEST.json": json.dumps(LEGACY)})
    assert read(tmp_path, MANIFEST).model_name == "m.1"


def test_an_old_manifest_without_a_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"^Missing Service entry in MANIFEST\.json$"):
        read_legacy(tmp_path, Model={"Model-Name": "net"})


@pytest.mark.parametrize(
    ("handler", "module", "function"),
    [
        ("service:handle", "service", "handle"),
        ("service", "service", None),
        ("service.py:run", "service", "run"),
        ("code/service.py:run", "service", "run"),
        ("service.py", "service", None),
    ],
)
def test_a_handler_is_read_as_mms_reads_it(tmp_path: Path, handler: str, module: str, function: str | None) -> None:
    put(tmp_path, {"service.py": ""})
    found = find_handler(tmp_path, Manifest(handler=handler))
    assert found is not None
    assert (found.module, found.function, found.file) == (module, function, tmp_path / "service.py")
    assert not found.is_stock


@pytest.mark.parametrize(
    ("handler", "file"),
    [
        ("code/service.py:run", "model/code/service.py"),
        ("svc.handler:run", "model/svc/handler.py"),
        ("svc:run", "model/svc/__init__.py"),
        ("svc.deep:run", "model/svc/deep/__init__.py"),
        ("code/svc.handler:run", "model/code/svc/handler.py"),
        ("../outside.py:run", "outside.py"),
        ("{}/outside.py:run", "outside.py"),
        ("shared:run", "path/shared.py"),
        ("pack.shared:run", "path/pack/shared.py"),
    ],
)
def test_a_handler_is_found_on_the_import_path_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, file: str
) -> None:
    put(tmp_path / "model", dict.fromkeys(("code/service.py", "svc/__init__.py", "svc/handler.py"), ""))
    put(tmp_path / "model", dict.fromkeys(("svc/deep/__init__.py", "code/svc/handler.py"), ""))
    put(tmp_path, dict.fromkeys(("outside.py", "path/shared.py", "path/pack/shared.py"), ""))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    found = find_handler(tmp_path / "model", Manifest(handler=handler.format(tmp_path)))
    assert found is not None and found.file is not None
    assert found.file.samefile(tmp_path / file)


def test_an_installed_module_may_be_a_handler(tmp_path: Path) -> None:
    found = find_handler(tmp_path, Manifest(handler="json.decoder:run"))
    assert found is not None and found.file == Path(json.decoder.__file__)


@pytest.mark.parametrize("handler", [":run", ".:run", "svc..handler:run", "/:run", "svc/:run", "app.settings:run"])
def test_a_handler_that_no_worker_could_import_has_no_file(tmp_path: Path, handler: str) -> None:
    put(tmp_path, {"svc/__init__.py": "", "svc/handler.py": ""})
    found = find_handler(tmp_path, Manifest(handler=handler))
    assert found is not None and found.file is None


@pytest.mark.parametrize("service", ["my.service.py", "{}/my.service.py", "{}/my.service"])
def test_an_old_archives_service_is_a_file(tmp_path: Path, service: str) -> None:
    put(tmp_path, {"my.service.py": "", "my/service.py": ""})
    found = find_handler(tmp_path, Manifest(handler=service.format(tmp_path), specification="0.1"))
    assert found is not None and found.file == tmp_path / "my.service.py"


def test_the_vision_service_is_stock_unless_the_archive_has_its_own_file(tmp_path: Path) -> None:
    named = Manifest(handler="mxnet_vision_service:handle")
    without = find_handler(tmp_path, named)
    assert without is not None and without.is_stock
    brought = find_handler(put(tmp_path, {"mxnet_vision_service.py": "import os"}), named)
    assert brought is not None and not brought.is_stock


def test_a_manifest_without_a_handler_has_no_handler_file(tmp_path: Path) -> None:
    assert find_handler(tmp_path, Manifest()) is None


@pytest.mark.parametrize(
    ("parameters", "taken"),
    [
        ("net-0003.params", "pre-0003.params"),
        ("pre-0003.params", "pre-0000.params"),
        ("net.params", "pre-0000.params"),
        ("net-x.params", "pre-0000.params"),
        (None, "pre-0000.params"),
    ],
)
def test_the_epoch_of_an_old_archive_follows_the_model_name_or_is_zero(
    tmp_path: Path, parameters: str | None, taken: str
) -> None:
    put(tmp_path, {"pre-symbol.json": "", "pre-0000.params": "", "pre-0003.params": "", "b-symbol.json": ""})
    old = Manifest(model_name="net", specification="0.1", symbol="pre-symbol.json", parameters=parameters)
    assert named_checkpoint(tmp_path, old) == (tmp_path / "pre-symbol.json", tmp_path / taken)


def test_the_checkpoint_of_a_new_archive_has_the_model_name_and_epoch_zero(tmp_path: Path) -> None:
    put(tmp_path, {"net-symbol.json": "", "net-0000.params": "", "net-0009.params": "", "b-symbol.json": ""})
    found = named_checkpoint(tmp_path, Manifest(model_name="net"))
    assert found == (tmp_path / "net-symbol.json", tmp_path / "net-0000.params")
    assert named_checkpoint(tmp_path, Manifest(model_name="other")) is None
    assert named_checkpoint(tmp_path, Manifest()) is None


def test_a_checkpoint_outside_the_folder_is_never_named(tmp_path: Path) -> None:
    put(tmp_path, {"net-symbol.json": "", "net-0000.params": "", "model/a": ""})
    old = Manifest(specification="0.1", symbol="../net-symbol.json")
    assert named_checkpoint(tmp_path / "model", old) is None
