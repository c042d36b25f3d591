"""Export of models as TensorFlow Lite files, by TensorFlow's own converter in an environment of its own."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from app.engines.openvino import OpenvinoEngine
from app.engines.parity import LIMIT, difference, predict_each, samples
from app.engines.proof import Program
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.inference import settle
from app.formats.labels import SYNSET
from app.formats.openvino_graph import read_graph
from app.formats.signature import FILE_NAME, document_of
from app.serving.export import OWN_FILE, write_onnx, write_openvino
from app.serving.tensorflow_reference import TensorflowReference, program_of
from app.settings import Settings
from app.types import FloatArray, Signature, TensorSpec
from app.utils.openvino_runtime import core, import_openvino


@dataclass(frozen=True)
class _Expectation:
    """A model's complete signature, and a program's outputs (N, classes) for inputs (N, …)."""

    signature: Signature
    program: Program
    inputs: FloatArray
    outputs: FloatArray


def write_tflite(folder: ModelFolder, labels: tuple[str, ...], path: Path, settings: Settings) -> str:
    """Write a model as one file for TensorFlow Lite, for one picture at a time.

    Keras and TensorFlow open their own files; other models are written as ONNX first. Labels and signature are appended
    as a zip, as TensorFlow Lite's own metadata are. A model's own ``.tflite`` file is copied unchanged.

    :param path: the file, in a folder of its own that is used for other files, too.
    :returns: what the file was compared with, and the largest difference between probabilities.
    :raises ModelFormatError: if TensorFlow is not installed for Dimple, cannot open or write the model, or computes
        other outputs.
    """
    if folder.graph is not None and folder.graph.suffix.lower() == ".tflite":
        shutil.copyfile(folder.graph, path)
        return OWN_FILE
    reference = TensorflowReference(settings)
    if not reference.is_installed:
        raise ModelFormatError(
            f"{folder.path}: TensorFlow writes TensorFlow Lite files, and is not installed for Dimple. Add "
            "--with-tensorflow, which installs it into the instance folder (2 GB)"
        )
    if kind := program_of(folder):
        expected = _by_its_program(kind, folder, reference, path)
    else:
        expected = _by_onnx(folder, labels, reference, path, settings)
    facts, before = read_graph(path), expected.signature
    signature = replace(
        before,
        inputs=(TensorSpec(facts.input_name, before.inputs[0].shape),),
        outputs=(TensorSpec(facts.outputs[0].name, (0, expected.outputs.shape[1])),),
    )
    actual, _program = reference.compute("tflite", open_model_folder(path.parent), signature, expected.inputs)
    worst = difference(actual, expected.outputs, signature.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(f"its probabilities would differ from those of {expected.program} by {worst:.1e}")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FILE_NAME, json.dumps(document_of(signature)))
        archive.writestr(SYNSET, "".join(f"{label}\n" for label in labels))
    return f"its probabilities differ from those of {expected.program} by {worst:.1e} at most, on test pictures"


def _by_its_program(kind: str, folder: ModelFolder, reference: TensorflowReference, path: Path) -> _Expectation:
    """Write the file by the program that the model's own file belongs to."""
    inference = infer_folder(folder)
    rows = samples(inference.signature.preprocess, inference.signature.inputs[0].shape)
    outputs, program = reference.compute(kind, folder, inference.signature, rows, path)
    return _Expectation(settle(inference, outputs).signature, program, rows, outputs)


def _by_onnx(
    folder: ModelFolder, labels: tuple[str, ...], reference: TensorflowReference, path: Path, settings: Settings
) -> _Expectation:
    """Write the file of the model's ONNX file. The served network, which is proven, has the expected outputs."""
    work = path.parent / "onnx"
    work.mkdir()
    signature, _parity = write_openvino(folder, work / "served.xml", settings)
    rows = samples(signature.preprocess, signature.inputs[0].shape)
    outputs = predict_each(OpenvinoEngine(core().read_model(work / "served.xml")), rows)
    program = Program("openvino", import_openvino().__version__.partition("-")[0])
    write_onnx(folder, labels, work / "model.onnx", compare=False)  # the result is compared instead
    reference.compute(
        "onnx", replace(folder, checkpoint=None, h5=None, onnx=work / "model.onnx"), signature, rows, path
    )
    return _Expectation(signature, program, rows, outputs)
