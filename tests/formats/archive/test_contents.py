from __future__ import annotations

from pathlib import Path

import pytest

from app.formats.archive.contents import find_handler, named_checkpoint
from app.formats.archive.manifest import Manifest
from tests.formats.archive.archives import put


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


def test_a_handler_in_a_folder_is_found(tmp_path: Path) -> None:
    put(tmp_path, {"code/service.py": ""})
    found = find_handler(tmp_path, Manifest(handler="code/service.py:run"))
    assert found is not None and found.file == tmp_path / "code" / "service.py"


def test_a_handler_outside_of_the_folder_is_not_its_own(tmp_path: Path) -> None:
    put(tmp_path, {"service.py": "", "model/a.txt": ""})
    for name in ("../service.py:run", f"{tmp_path}/service.py:run"):
        found = find_handler(tmp_path / "model", Manifest(handler=name))
        assert found is not None and found.file is None


def test_mms_vision_service_is_stock_only_where_its_file_is_not_brought(tmp_path: Path) -> None:
    named = Manifest(handler="mxnet_vision_service:handle")
    without = find_handler(tmp_path, named)
    assert without is not None and without.is_stock
    brought = find_handler(put(tmp_path, {"mxnet_vision_service.py": "import os"}), named)
    assert brought is not None and not brought.is_stock


def test_no_handler_is_none(tmp_path: Path) -> None:
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
def test_an_old_archives_epoch_stands_after_the_models_name_and_is_else_zero(
    tmp_path: Path, parameters: str | None, taken: str
) -> None:
    put(tmp_path, {"pre-symbol.json": "", "pre-0000.params": "", "pre-0003.params": "", "b-symbol.json": ""})
    old = Manifest(model_name="net", specification="0.1", symbol="pre-symbol.json", parameters=parameters)
    assert named_checkpoint(tmp_path, old) == (tmp_path / "pre-symbol.json", tmp_path / taken)


def test_a_new_archives_checkpoint_is_called_as_the_model_and_of_epoch_zero(tmp_path: Path) -> None:
    put(tmp_path, {"net-symbol.json": "", "net-0000.params": "", "net-0009.params": "", "b-symbol.json": ""})
    found = named_checkpoint(tmp_path, Manifest(model_name="net"))
    assert found == (tmp_path / "net-symbol.json", tmp_path / "net-0000.params")
    assert named_checkpoint(tmp_path, Manifest(model_name="other")) is None
    assert named_checkpoint(tmp_path, Manifest()) is None


def test_a_checkpoint_elsewhere_is_never_named(tmp_path: Path) -> None:
    put(tmp_path, {"net-symbol.json": "", "net-0000.params": "", "model/a": ""})
    old = Manifest(specification="0.1", symbol="../net-symbol.json")
    assert named_checkpoint(tmp_path / "model", old) is None
