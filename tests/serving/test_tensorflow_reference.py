"""TensorFlow and Keras as references, in an environment of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.openvino_graph import read_graph
from app.serving.export_tflite import write_tflite
from app.serving.rescue import check_proof, rescue_folder
from app.serving.tensorflow_reference import TensorflowReference, program_of
from app.settings import ROOT, Settings
from app.types import FloatArray, Signature, TensorSpec

TESTDATA = ROOT / "tests" / "testdata"
GRAPHS = TESTDATA / "graphs"
KERAS = {
    "keras2_tf_sequential.h5": "tf_keras 2.21.0",
    "tf23_operations.h5": "tf_keras 2.21.0",
    "tf215_archive_shared.keras": "tf_keras 2.21.0",
    "tf215_grey_flat.h5": "tf_keras 2.21.0",
    "tf215_teachable.h5": "tf_keras 2.21.0",
    "keras300_shared.keras": "keras 3.15.1",
    "keras315_legacy_sequential.h5": "keras 3.15.1",
    "keras315_nested_three.keras": "keras 3.15.1",
}
OTHERS = {
    "saved_model": "tensorflow 2.21.0",
    "net.pb": "tensorflow 2.21.0",
    "float.tflite": "tensorflow 2.21.0",
    "int8.tflite": "tensorflow-lite 2.21.0",
}


def folder_of(source: Path, path: Path) -> ModelFolder:
    """Return a model folder with a file, or with a SavedModel."""
    path.mkdir()
    if source.is_dir():
        shutil.copytree(source, path / source.name)
    else:
        shutil.copyfile(source, path / source.name)
    return open_model_folder(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, program.split()[0]) for name, program in KERAS.items()),
        *(("keras1_tf_graph.h5", ""), ("keras2_th_graph.h5", "")),
        *(("graphs/saved_model", "saved_model"), ("graphs/net.pb", "frozen"), ("graphs/int8.tflite", "tflite")),
        *(("makers/torch_script.onnx", ""),),
    ],
)
def test_a_file_belongs_to_the_program_that_wrote_it(tmp_path: Path, name: str, kind: str) -> None:
    assert program_of(folder_of(TESTDATA / name, tmp_path / "net")) == kind


def test_a_file_of_keras_mxnet_belongs_to_neither_program() -> None:
    assert program_of(open_model_folder(ROOT / "models" / "smile")) == ""


def test_a_failed_installation_is_an_error_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    reference = TensorflowReference(Settings(instance_dir=tmp_path, pip_options="--no-index"))
    with pytest.raises(ModelFormatError, match="No matching distribution found for tensorflow") as raised:
        reference.install()
    assert "DIMPLE_PIP_OPTIONS" in str(raised.value) and "without --with-tensorflow" in str(raised.value)
    assert not reference.is_installed


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of an instance with TensorFlow, which takes a minute to install."""
    settings = Settings(instance_dir=tmp_path_factory.mktemp("instance"))
    try:
        TensorflowReference(settings).install()
    except ModelFormatError as error:
        pytest.skip(str(error))
    return settings


def recorded(source: Path) -> tuple[FloatArray, FloatArray]:
    """Return the pictures of a file and the answers of the program that wrote it, as recorded when it was written."""
    facts = json.loads(
        (GRAPHS / "answers.json" if source.parent == GRAPHS else source.with_suffix(".json")).read_text()
    )
    answers = facts["answers"][source.name] if source.parent == GRAPHS else facts["answers"]
    pictures = np.array(facts["pictures"], np.float32)
    return pictures, np.array(answers, np.float32).reshape(len(pictures), -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "program"),
    [*((TESTDATA / name, program) for name, program in KERAS.items()), *((GRAPHS / n, p) for n, p in OTHERS.items())],
)
def test_its_outputs_are_those_of_the_program_that_wrote_the_file(
    settings: Settings, tmp_path: Path, source: Path, program: str
) -> None:
    pictures, expected = recorded(source)
    folder = folder_of(source, tmp_path / "net")
    facts = read_graph(folder.graph) if folder.graph is not None else None
    names = (facts.input_name, facts.outputs[0].name) if facts is not None else ("", "")
    signature = Signature((TensorSpec(names[0], (0, *pictures.shape[1:])),), (TensorSpec(names[1], (0, 3)),))
    actual, found = TensorflowReference(settings).compute(program_of(folder), folder, signature, pictures)
    assert str(found) == program
    assert actual == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_the_installed_reference_proves_and_checks_converted_models(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    proven = rescue_folder(folder_of(GRAPHS / "float.tflite", tmp_path / "source").path, folder, settings)
    assert proven.proof.converted is not None and proven.notes == ()
    assert str(proven.proof.converted.reference) == "tensorflow 2.21.0" and proven.proof.converted.holds
    verdict = check_proof(open_model_folder(folder), settings)
    assert verdict.holds and verdict.reference is not None and verdict.reference.reference.name == "tensorflow"
    elsewhere = check_proof(open_model_folder(folder), Settings(instance_dir=tmp_path / "other"))
    assert elsewhere.holds and elsewhere.reference is None and elsewhere.stored is not None


@pytest.mark.slow
def test_a_file_that_current_keras_cannot_open_is_proven_without_it(settings: Settings, tmp_path: Path) -> None:
    source = folder_of(TESTDATA / "keras300_sequential.keras", tmp_path / "source").path
    proven = rescue_folder(source, tmp_path / "net", settings)
    assert proven.proof.converted is not None and proven.proof.converted.reference.name == "mxnet"
    assert len(proven.notes) == 1 and "RandomRotation" in proven.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        TESTDATA / "keras1_th_sequential.h5",
        TESTDATA / "tf215_teachable.h5",
        TESTDATA / "keras315_nested_three.keras",
        GRAPHS / "saved_model",
        GRAPHS / "net.pb",
    ],
)
def test_an_export_for_tensorflow_lite_answers_as_the_program_that_wrote_the_file(
    settings: Settings, tmp_path: Path, source: Path
) -> None:
    folder = folder_of(source, tmp_path / "net")
    (tmp_path / "lite").mkdir()
    labels = ("a b", "c", "dé")
    note = write_tflite(folder, labels, tmp_path / "lite" / "model.tflite", settings)
    assert "differ from those of" in note
    pictures, expected = recorded(source)
    written = open_model_folder(tmp_path / "lite")
    inference = infer_folder(written)
    actual, _program = TensorflowReference(settings).compute("tflite", written, inference.signature, pictures)
    assert actual == pytest.approx(expected, abs=1e-5)
    before = infer_folder(folder).signature
    assert inference.labels == labels
    assert inference.signature.preprocess == before.preprocess
    assert inference.signature.inputs[0].shape == before.inputs[0].shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch_script", "paddle", "tf2onnx"])
def test_an_onnx_file_exported_for_tensorflow_lite_answers_as_in_onnx_runtime(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    import onnxruntime

    source = TESTDATA / "makers" / f"{name}.onnx"
    (tmp_path / "lite").mkdir()
    write_tflite(folder_of(source, tmp_path / "net"), ("a", "b", "c"), tmp_path / "lite" / "model.tflite", settings)
    written = open_model_folder(tmp_path / "lite")
    signature = infer_folder(written).signature
    rows = np.random.default_rng(0).random((3, *signature.inputs[0].shape[1:]), np.float32)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None]})[0] for row in rows])
    actual, _program = TensorflowReference(settings).compute("tflite", written, signature, rows)
    assert actual == pytest.approx(expected, abs=1e-5)


def test_a_tensorflow_lite_file_is_not_written_without_tensorflow(tmp_path: Path) -> None:
    folder = folder_of(TESTDATA / "tf215_teachable.h5", tmp_path / "net")
    with pytest.raises(ModelFormatError, match="Add --with-tensorflow"):
        write_tflite(folder, ("a",), tmp_path / "model.tflite", Settings(instance_dir=tmp_path))
