"""ONNX files turned into MXNet checkpoints by MXNet's own importer, and compared with what OpenVINO computes.

This is done in a process of its own, as :mod:`app.engines.building` does and for the same reasons. The child is given a
pickle of (ONNX file, stem of the checkpoint, signature) on its standard input, and prints what is wrong, if anything.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engines.child import run_module, run_order
from app.engines.parity import LIMIT, difference, predict_each
from app.engines.samples import samples
from app.errors import ModelFormatError
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.onnx_graph import read_onnx
from app.types import Signature, TensorSpec
from app.utils.error_text import reason_of

LONGEST_SECONDS = 1800


def import_onnx(file: Path, stem: Path, signature: Signature | None = None) -> Signature:
    """Write ``STEM-symbol.json`` and ``STEM-0000.params`` that compute the same as an ONNX file.

    :param signature: what is known of the model; None takes what the file says.
    :returns: the checkpoint's signature.
    :raises ModelFormatError: if the file cannot be read, MXNet cannot compute it, or computes something else.
    """
    facts = read_onnx(file)
    signature = signature or infer_signature(ModelFiles(onnx=file)).signature
    first = TensorSpec(facts.input_name, signature.inputs[0].shape)
    signature = replace(signature, inputs=(first, *signature.inputs[1:]))
    try:
        done = run_module("app.engines.onnx_import", (file.absolute(), stem.absolute(), signature), LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ModelFormatError(f"{file}: reading it with MXNet took more than {LONGEST_SECONDS} seconds") from None
    if done.returncode:
        reason = reason_of(done.stderr) or f"status {done.returncode}"
        raise ModelFormatError(f"{file} cannot be turned into an MXNet checkpoint: {reason}. Dimple serves it as it is")
    return signature


def _import(file: Path, stem: Path, signature: Signature) -> None:
    from app.engines.compat import prepare, quietly
    from app.engines.mxnet_engine import MxnetEngine
    from app.engines.openvino_engine import OpenvinoEngine
    from app.engines.openvino_runtime import import_openvino

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
    found, expected = predict_each(engine, rows), predict_each(reference, rows)
    worst = difference(found, expected, signature.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(f"MXNet's answers differ by {worst:.1e} from those of OpenVINO")


def _as_of_old(file: Path, folder: Path) -> str:
    """Write the file as before IR version 4, which the importer expects: learned arrays are listed as inputs, too."""
    import onnx

    model: Any = onnx.load(str(file))
    listed = {one.name for one in model.graph.input}
    for array in model.graph.initializer:
        if array.name not in listed:
            value = onnx.helper.make_tensor_value_info(array.name, array.data_type, list(array.dims))
            model.graph.input.append(value)
    path = str(folder / "model.onnx")
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    sys.exit(run_order(_import))
