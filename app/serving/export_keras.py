"""Export of Keras models of any age as ``.keras`` files, which Keras 3 opens.

A separate process writes the file and compares it, as in :mod:`app.serving.export`. The child reads a pickle of
(working folder, model folder, path) from its standard input, and prints the result of the comparison or an error.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from app.engines.base import Network
from app.engines.keras.keras3_writer import write_keras3
from app.engines.keras.network import read_network
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import LIMIT, difference, predict_each, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_signature import infer_folder
from app.formats.keras_archive import is_archive
from app.formats.keras_file import read_h5
from app.serving.export import OWN_FILE, run_export
from app.types import FloatArray
from app.utils.process import run_job


def write_keras(folder: ModelFolder, path: Path) -> str:
    """Write a Keras model as a ``.keras`` file; one that Keras 3 saved is copied unchanged.

    :returns: what the file was compared with, and the largest difference between probabilities.
    :raises ModelFormatError: if the model is no Keras model, or has a layer that Keras 3 does not have, or the written
        file computes other outputs.
    """
    if folder.h5 is None:
        raise ModelFormatError(
            f"{folder.path}: {folder.weights.name} is not a file of Keras, and no other is written for Keras. "
            "Export it with --to onnx"
        )
    order = (os.getcwd(), folder, path.absolute())
    return run_export("app.serving.export_keras", order, f"{folder.h5} cannot be written for Keras 3")


def _write(working_dir: str, folder: ModelFolder, path: Path) -> str:
    os.chdir(working_dir)
    assert folder.h5 is not None
    model = read_h5(folder.h5, folder.architecture)
    if is_archive(folder.h5) and model.keras_version.startswith("3"):
        shutil.copyfile(folder.h5, path)
        return OWN_FILE
    signature = infer_folder(folder, "keras").signature
    shape, output = signature.inputs[0].shape, signature.outputs[0].name if signature.outputs else ""
    write_keras3(model, path, shape, output)
    rows = samples(signature.preprocess, shape)
    expected = _answers(read_network(folder.h5, shape, output)[0], rows)
    actual = _answers(read_network(path, shape, output.replace("/", "_"))[0], rows)
    worst = difference(actual, expected, signature.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(
            f"its probabilities would differ by {worst:.1e}, since its backend computes otherwise than Keras 3. "
            "Export it with --to onnx"
        )
    return f"read again, its probabilities differ from the model's own by {worst:.1e} at most, on test pictures"


def _answers(network: Network, rows: FloatArray) -> FloatArray:
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "model.onnx"
        export_onnx(network, file)
        return predict_each(OpenvinoEngine(read_model(file)[0]), rows)


if __name__ == "__main__":
    sys.exit(run_job(_write))
