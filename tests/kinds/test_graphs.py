"""Files of TensorFlow, TensorFlow Lite and OpenVINO, against what TensorFlow and its interpreter answered for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flask import Flask

from app import create_app
from app.cli.rescue import rescue
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.formats.import_files import gather
from app.formats.infer_signature import infer_folder
from app.formats.inference import confidence_of
from app.serving.model import Model
from app.settings import Settings
from app.utils.openvino_runtime import import_openvino
from tests.kinds.conftest import converted
from tests.kinds.table import Table
from tests.kinds.test_kinds import answers

GRAPHS = Path(__file__).parent.parent / "testdata" / "graphs"
FACTS = json.loads((GRAPHS / "answers.json").read_text())
PICTURES = np.array(FACTS["pictures"], np.uint8)
KINDS = {
    "saved_model": ("TensorFlow: SavedModel", "TensorFlow", 1e-5),
    "net.pb": ("TensorFlow: frozen graph (.pb)", "TensorFlow", 1e-5),
    "float.tflite": ("TFLite: float", "its interpreter", 1e-5),
    "int8.tflite": ("TFLite: full integer", "its interpreter", 0.005),
}
"""Kind, reference, and the largest acceptable difference of each: 8 bits have steps of 1/256."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "models" / "net").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def app(place: Path) -> Flask:
    return create_app(Settings(models_dir=place / "models", uploads_dir=place / "up", instance_dir=place / "instance"))


def put(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder / "saved_model")
    else:
        shutil.copyfile(source, folder / source.name)


def opened(folder: Path, place: Path) -> Model:
    return converted(folder, place / "cache")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_dropped_into_the_models_folder_answers_as_the_program_that_made_it(
    place: Path, table: Table, name: str
) -> None:
    kind, reference, limit = KINDS[name]
    put(GRAPHS / name, place / "models" / "net")
    described = json.loads((GRAPHS / "signature.json").read_text())
    inference = infer_folder(open_model_folder(place / "models" / "net"))
    if name in ("saved_model", "net.pb"):  # TensorFlow's own arithmetic is in the graph
        assert inference.signature.preprocess.scale == 1.0 and confidence_of(inference.reasons["pixels"]) == "derived"
    elif name == "int8.tflite":
        assert inference.signature.preprocess.scale == 1.0 and "whole numbers" in inference.reasons["pixels"]
    else:
        (place / "models" / "net" / "signature.json").write_text(json.dumps(described))
    model = opened(place / "models" / "net", place)
    assert model.labels == (("ant", "bee", "cat") if name == "float.tflite" else ("0", "1", "2"))
    expected = np.array(FACTS["answers"][name])
    assert np.ptp(expected, axis=0).max() > 0.05
    worst = float(np.abs(answers(model, PICTURES) - expected).max())
    assert worst < limit
    table.add(kind, f"TensorFlow {FACTS['tensorflow']}", reference, worst)


def test_an_openvino_model_answers_as_its_source_file(place: Path, table: Table) -> None:
    openvino = import_openvino()
    openvino.save_model(
        openvino.convert_model(str(GRAPHS / "net.pb")), place / "models" / "net" / "net.xml", compress_to_fp16=False
    )
    model = opened(place / "models" / "net", place)
    worst = float(np.abs(answers(model, PICTURES) - np.array(FACTS["answers"]["net.pb"])).max())
    assert worst < 1e-5
    table.add("OpenVINO: IR (.xml and .bin)", f"OpenVINO {openvino.__version__.partition('-')[0]}", "TensorFlow", worst)
    (place / "models" / "net" / "net.bin").unlink()
    with pytest.raises(ModelFormatError, match=r"net\.bin is not beside it"):
        infer_folder(open_model_folder(place / "models" / "net"))


@pytest.mark.parametrize("name", ["saved_model", "int8.tflite"])
def test_a_graph_is_rescued_with_its_outputs_but_without_a_proof(
    app: Flask, place: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = app.test_cli_runner().invoke(rescue, [str(GRAPHS / name), "--name", "made"])
    assert done.exit_code == 0, done.output
    assert "OpenVINO   not proven: no other program here computes such files" in done.output
    made = place / "models" / "made"
    proof = json.loads((made / "proof.json").read_text())
    assert proof["converted"] is None and set(proof["result"]) == {
        f"converted/{name}" for name in ("answers.npy", "model.bin", "model.xml")
    }
    originals = {file.name for file in (GRAPHS / "saved_model").rglob("*") if file.name != "fingerprint.pb"}
    assert {Path(file).name for file in proof["source"]} <= originals | {"made.tflite"}
    written = (made / "converted" / "model.xml").read_text()
    assert 'type="FakeQuantize"' not in written  # 8-bit arithmetic overflows on some processors
    assert 'element_type="i8"' not in written  # streams that are compiled at once may convert such weights wrongly
    expected = np.array(FACTS["answers"][name])
    assert np.abs(answers(opened(made, place), PICTURES) - expected).max() < 0.01
    assert "is not served" not in caplog.text  # converted/ is used, as its proof names all files of the source


@pytest.mark.parametrize(("name", "scale", "mean"), [("float.tflite", 1 / 127.5, 1), ("int8.tflite", 1, 0)])
def test_layer_names_of_teachable_machine_imply_the_pixels_of_a_tflite_file(
    tmp_path: Path, name: str, scale: float, mean: float
) -> None:
    """As Teachable Machine's files of 2024 have them: all other names of layers are gone."""
    content = (GRAPHS / name).read_bytes()
    for names, resize in ((b"serving_default_sequential_1_input:0\0dense_Dense1/bias", "fit"), (b"dense_Dense1", "")):
        (tmp_path / "net.tflite").write_bytes(content + b"\0" + names)
        inference = infer_folder(open_model_folder(tmp_path))
        preprocess = inference.signature.preprocess
        if not resize:
            assert preprocess.resize == "stretch"
            continue
        assert (preprocess.resize, preprocess.interpolation) == (resize, "lanczos")
        assert (preprocess.scale, preprocess.mean) == (pytest.approx(scale), (mean,))
        assert confidence_of(inference.reasons["pixels"]) == "derived"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.pb", b"no graph at all", "net.pb cannot be read as a network of TensorFlow"),
        ("net.tflite", b"\x1c\0\0\0TFL3", "net.tflite cannot be read as a network of TensorFlow Lite"),
        ("net.xml", b"<net/>", "net.bin is not beside it"),
        ("net.pt", b"PK\5\6" + bytes(18), "weights alone: where PyTorch is installed"),
        ("net.caffemodel", b"x", "is a file of Caffe, which Dimple does not open"),
    ],
)
def test_files_that_cannot_be_opened_are_refused_with_the_reason(
    app: Flask, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = app.test_cli_runner().invoke(rescue, [str(tmp_path / name), "--name", "other"])
    assert done.exit_code == 1 and message in done.output
    assert done.output.startswith("Error: ") and len(done.output.splitlines()) == 1


def test_a_torchscript_archive_is_distinguished_from_weights(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/code/__torch__.py", "class Net: pass")
        archive.writestr("net/data.pkl", b"")
    with pytest.raises(ModelFormatError, match=r"TorchScript.*torch\.jit\.load.*torch\.onnx\.export"):
        gather([tmp_path / "net.pt"])
