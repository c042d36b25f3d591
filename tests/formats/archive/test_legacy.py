"""Archives with the manifest's keys, their order and the rules of mxnet-model-export 0.4."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path

import pytest

from app.errors import PackError
from app.formats.archive.legacy import export
from app.formats.archive.manifest import find_handler, named_checkpoint, read_manifest
from app.formats.archive.unpack import unpack
from tests.formats.archive.archives import put

SERVICE = "from mms.model_service.mxnet_model_service import MXNetBaseService\nclass Smile(MXNetBaseService): pass\n"


def signature(input_type: str = "image/jpeg", **changes: object) -> str:
    return json.dumps(
        {
            "inputs": [{"data_name": "/conv2d_1_input1", "data_shape": [0, 1, 32, 32]}],
            "input_type": input_type,
            "outputs": [{"data_name": "softmax", "data_shape": [0, 2]}],
            "output_type": "application/json",
            **changes,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the files of the SmileCNN tutorial, and some that no archive should hold."""
    return put(
        tmp_path / "given",
        {
            "smileCNN_model-symbol.json": '{"attrs": {"mxnet_version": ["int", 10100]}}',
            "smileCNN_model-0000.params": "weights",
            "signature.json": signature(),
            "synset.txt": "non-smiling\nsmiling\n",
            "custom_service.py": SERVICE,
            "MANIFEST.json": "old",
            "older.model": "",
            "sub/deep.txt": "",
        },
    )


def test_the_tutorials_archive_is_made(folder: Path, tmp_path: Path) -> None:
    made = export("smileCNN", folder, Path("custom_service.py"), tmp_path)
    assert made == tmp_path / "smileCNN.model"
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == [
            "custom_service.py",
            "signature.json",
            "smileCNN_model-0000.params",
            "smileCNN_model-symbol.json",
            "synset.txt",
            "MANIFEST.json",
        ]
        document = json.loads(archive.read("MANIFEST.json"))
    assert list(document) == ["Model-Archive-Version", "Model-Archive-Description", "Model-Server", "Model", "Engine"]
    assert document["Model-Archive-Version"] == 0.2
    assert type(document["Model-Server"]) is float
    assert document["Model"] == {
        "Symbol": "smileCNN_model-symbol.json",
        "Parameters": "smileCNN_model-0000.params",
        "Signature": "signature.json",
        "Service": "custom_service.py",
        "Description": "smileCNN",
        "Model-Name": "smileCNN",
        "Model-Format": "MXNet-Symbolic",
    }
    assert document["Engine"] == {"MXNet": ["int", 10100]}


def test_the_archive_can_be_unpacked_and_read(folder: Path, tmp_path: Path) -> None:
    opened = unpack(export("smileCNN", folder, Path("custom_service.py"), tmp_path), tmp_path / "smileCNN")
    manifest = read_manifest(opened)
    assert (manifest.model_name, manifest.handler) == ("smileCNN", "custom_service.py")
    assert named_checkpoint(opened, manifest) == (
        opened / "smileCNN_model-symbol.json",
        opened / "smileCNN_model-0000.params",
    )


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = export("smileCNN", folder, None, tmp_path)
    content = first.read_bytes()
    first.unlink()
    assert export("smileCNN", folder, None, tmp_path).read_bytes() == content


@pytest.mark.parametrize(
    ("input_type", "module", "base", "stock"),
    [
        ("image/jpeg", "mxnet_vision_service", "MXNetVisionService", True),
        ("application/json", "mxnet_model_service", "MXNetBaseService", False),
    ],
)
def test_the_service_of_mms_is_added_if_none_is_given(
    folder: Path, tmp_path: Path, input_type: str, module: str, base: str, stock: bool
) -> None:
    put(folder, {"signature.json": signature(input_type)})
    opened = unpack(export("smileCNN", folder, None, tmp_path), tmp_path / "smileCNN")
    imported, made = ast.parse((opened / f"{module}.py").read_text()).body[1:]
    assert isinstance(imported, ast.ImportFrom) and imported.module == f"mms.model_service.{module}"
    assert isinstance(made, ast.ClassDef) and [ast.unparse(base) for base in made.bases] == [base]
    manifest = read_manifest(opened)
    assert manifest.handler == f"{module}.py"
    handler = find_handler(opened, manifest)
    assert handler is not None and handler.is_stock is stock


def test_a_service_from_another_folder_is_added(folder: Path, tmp_path: Path) -> None:
    service = put(tmp_path / "elsewhere", {"mine.py": SERVICE + "# mine\n"}) / "mine.py"
    with zipfile.ZipFile(export("smileCNN", folder, service, tmp_path)) as archive:
        assert archive.read("mine.py").decode() == SERVICE + "# mine\n"
        assert json.loads(archive.read("MANIFEST.json"))["Model"]["Service"] == "mine.py"


@pytest.mark.parametrize(
    ("gone", "added", "reason"),
    [
        ("signature.json", {}, "signature.json is not found in"),
        ("smileCNN_model-0000.params", {}, "Incomplete MXNet model"),
        ("smileCNN_model-symbol.json", {}, "Incomplete MXNet model"),
        ("synset.txt", {"a.onnx": ""}, "More than one model type"),
        ("synset.txt", {"b-symbol.json": ""}, "only one -symbol.json file"),
        ("synset.txt", {"b-0001.params": ""}, "only one .params file"),
        ("smileCNN_model-0000.params", {"smileCNN_model.params": ""}, "No epoch number found"),
        ("smileCNN_model-0000.params", {"other-0000.params": ""}, "naming prefix do not match"),
        ("synset.txt", {"signature.json": "{}"}, "input_type and output_type are required"),
        ("synset.txt", {"signature.json": signature("image/png")}, "Valid type should be picked from"),
        ("synset.txt", {"signature.json": signature(inputs=[{}])}, "inputs and outputs are required"),
        ("synset.txt", {"signature.json": "["}, "signature.json cannot be read"),
        ("synset.txt", {"custom_service.py": "print 'two'"}, "cannot be read as Python 3"),
        ("synset.txt", {"custom_service.py": "class A: pass"}, "should be derived from MXNetBaseService"),
        ("custom_service.py", {}, "Service File not found"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(
    folder: Path, tmp_path: Path, gone: str, added: dict[str, str], reason: str
) -> None:
    (folder / gone).unlink()
    put(folder, added)
    with pytest.raises(PackError, match=reason):
        export("smileCNN", folder, Path("custom_service.py"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_an_existing_archive_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    put(tmp_path, {"smileCNN.model": "mine"})
    with pytest.raises(PackError, match="already exists"):
        export("smileCNN", folder, None, tmp_path)
    assert (tmp_path / "smileCNN.model").read_text() == "mine"


def test_a_name_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="special characters"):
        export("../x", folder, None, tmp_path / "given")
