"""Export of models as TensorFlow Lite files, by TensorFlow's own converter in an environment of its own."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

from app.engines.parity import LIMIT, difference, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.inference import settle
from app.formats.labels import SYNSET
from app.formats.openvino_graph import read_graph
from app.formats.signature import FILE_NAME, document_of
from app.serving.export_keras import OWN_FILE, write_keras
from app.serving.tensorflow_reference import TensorflowReference, program_of
from app.settings import Settings
from app.types import TensorSpec


def write_tflite(folder: ModelFolder, labels: tuple[str, ...], path: Path, settings: Settings) -> str:
    """Write a model of Keras or TensorFlow as one file for TensorFlow Lite, for one picture at a time.

    Labels and signature are appended as a zip, as TensorFlow Lite's own metadata are. A model's own ``.tflite`` file is
    copied unchanged. Keras files that today's Keras does not open are written for it first. MXNet checkpoints and
    ONNX files are not written: TensorFlow reads neither.

    :param path: the file, in a folder of its own that is used for other files, too.
    :returns: what the file was compared with, and the largest difference between probabilities.
    :raises ModelFormatError: if TensorFlow is not installed for Dimple, cannot open or write the model, or computes
        other outputs.
    """
    if folder.graph is not None and folder.graph.suffix.lower() == ".tflite":
        shutil.copyfile(folder.graph, path)
        return OWN_FILE
    kind = program_of(folder)
    if not kind and folder.h5 is None:
        raise ModelFormatError(
            f"{folder.path}: TensorFlow does not open {folder.weights.name}, so nothing here writes TensorFlow Lite of "
            f"it. Export it with --to onnx; onnx2tf, a package of its own, makes a .tflite of that: onnx2tf -i "
            f"{folder.name}.onnx"
        )
    reference = TensorflowReference(settings)
    if not reference.is_installed:
        raise ModelFormatError(
            f"{folder.path}: TensorFlow writes TensorFlow Lite files, and is not installed for Dimple. Add "
            "--with-tensorflow, which installs it into the instance folder (2 GB)"
        )
    inference = infer_folder(folder)
    signature, source = inference.signature, folder
    if not kind:
        (path.parent / "keras").mkdir()
        write_keras(folder, path.parent / "keras" / "model.keras")
        kind, source = "keras", open_model_folder(path.parent / "keras")
    rows = samples(signature.preprocess, signature.inputs[0].shape)
    expected, program = reference.compute(kind, source, signature, rows, path)
    facts = read_graph(path)
    described = replace(
        settle(inference, expected).signature,
        inputs=(TensorSpec(facts.input_name, signature.inputs[0].shape),),
        outputs=(TensorSpec(facts.outputs[0].name, (0, expected.shape[1])),),
    )
    actual, _program = reference.compute("tflite", open_model_folder(path.parent), described, rows)
    worst = difference(actual, expected, described.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(f"its probabilities would differ from those of {program} by {worst:.1e}")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FILE_NAME, json.dumps(document_of(described)))
        archive.writestr(SYNSET, "".join(f"{label}\n" for label in labels))
    return f"its probabilities differ from those of {program} by {worst:.1e} at most, on test pictures"
