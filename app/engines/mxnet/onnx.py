"""ONNX files imported as MXNet checkpoints by MXNet's own importer.

This runs in a separate process, as in :mod:`app.engines.conversion_process` and for the same reasons. The child reads a
pickle of (ONNX file, stem of the checkpoint, signature) from its standard input, and prints the error, if any.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engines.parity import LIMIT, difference, predict_each, samples
from app.errors import ModelFormatError
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.onnx_graph import read_onnx
from app.types import Signature, TensorSpec
from app.utils.error_text import reason_of
from app.utils.process import run_job, run_module

LONGEST_SECONDS = 1800


def import_onnx(file: Path, stem: Path, signature: Signature | None = None) -> Signature:
    """Write ``STEM-symbol.json`` and ``STEM-0000.params`` that compute the same as an ONNX file.

    :param signature: the known signature of the model; None reads it from the file.
    :returns: the checkpoint's signature.
    :raises ModelFormatError: if the file cannot be read, or MXNet cannot compute it or computes something else.
    """
    facts = read_onnx(file)
    signature = signature or infer_signature(ModelFiles(onnx=file)).signature
    first = TensorSpec(facts.input_name, signature.inputs[0].shape)
    signature = replace(signature, inputs=(first, *signature.inputs[1:]))
    try:
        done = run_module("app.engines.mxnet.onnx", (file.absolute(), stem.absolute(), signature), LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ModelFormatError(f"{file}: reading it with MXNet took more than {LONGEST_SECONDS} seconds") from None
    if done.returncode:
        reason = reason_of(done.stderr) or f"status {done.returncode}"
        raise ModelFormatError(f"{file} cannot be turned into an MXNet checkpoint: {reason}. Dimple serves it as it is")
    return signature


def _import(file: Path, stem: Path, signature: Signature) -> None:
    from app.engines.mxnet.compat import prepare, quietly
    from app.engines.mxnet.engine import MxnetEngine
    from app.engines.openvino import OpenvinoEngine
    from app.utils.openvino_runtime import import_openvino

    prepare()
    import mxnet as mx
    from mxnet.contrib.onnx import import_model

    with tempfile.TemporaryDirectory() as folder, quietly():
        symbol, learned, states = import_model(_as_of_old(file, Path(folder)))
    mx.model.save_checkpoint(str(stem), 0, symbol, learned, states)
    checkpoint = (Path(f"{stem}-symbol.json"), Path(f"{stem}-0000.params"))
    first = signature.inputs[0]
    model = import_openvino().convert_model(str(file))
    model.reshape({model.input(0): [1, *first.shape[1:]]})
    engine, reference = OpenvinoEngine(model), MxnetEngine.load(*checkpoint, first.name, first.shape)
    rows = samples(signature.preprocess, first.shape)
    actual, expected = predict_each(engine, rows), predict_each(reference, rows)
    worst = difference(actual, expected, signature.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(f"MXNet's answers differ by {worst:.1e} from those of OpenVINO")


def _as_of_old(file: Path, folder: Path) -> str:
    """Write the file as before IR version 4, which the importer expects: its inputs include the parameters."""
    import onnx

    model: Any = onnx.load(str(file))
    listed = {item.name for item in model.graph.input}
    for array in model.graph.initializer:
        if array.name not in listed:
            value = onnx.helper.make_tensor_value_info(array.name, array.data_type, list(array.dims))
            model.graph.input.append(value)
    path = str(folder / "model.onnx")
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    sys.exit(run_job(_import))
