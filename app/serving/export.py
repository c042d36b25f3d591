"""Export of a model for other programs, as an MXNet checkpoint or an ONNX file.

A separate process writes and compares ONNX, as in :mod:`app.engines.conversion_process` and for the same reasons. The
child reads a pickle of (working folder, model folder, labels, path, whether to compare) from its standard input, and
prints the result of the comparison or an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engines.base import Parity
from app.engines.cache import MODEL, WEIGHTS
from app.engines.conversion import load_reference, missing_reference, open_reference, read_network, reference_kind
from app.engines.conversion_process import ConversionError, entry_of
from app.engines.keras.engine import KerasEngine
from app.engines.mxnet.engine import MxnetEngine
from app.engines.mxnet.onnx import import_onnx
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.parity import LIMIT, difference, predict_each, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_signature import infer_folder
from app.formats.inference import settle
from app.formats.mxnet_params import write_params
from app.formats.onnx_graph import LABELS, SIGNATURE
from app.formats.signature import document_of
from app.settings import Settings
from app.types import Signature, TensorSpec
from app.utils.error_text import reason_of
from app.utils.process import run_job, run_module

LONGEST_SECONDS = 1800
OWN_FILE = "the model's own file"


def write_checkpoint(folder: ModelFolder, stem: Path) -> Signature:
    """Write a model as ``STEM-symbol.json`` and ``STEM-0000.params``; a checkpoint's files are copied unchanged.

    An ``.h5`` file becomes the graph that Keras-MXNet computes, with its weights unchanged. An ONNX file becomes the
    graph of MXNet's importer.

    :returns: the checkpoint's signature.
    :raises ModelFormatError: if the model has no weights that MXNet can compute.
    """
    symbol, params = stem.with_name(f"{stem.name}-symbol.json"), stem.with_name(f"{stem.name}-0000.params")
    if folder.checkpoint is not None:
        shutil.copyfile(folder.checkpoint.symbol, symbol)
        shutil.copyfile(folder.checkpoint.params, params)
        return infer_folder(folder).signature
    if not reference_kind(folder, "auto"):
        if folder.onnx is None:
            raise ModelFormatError(f"{folder.path}: nothing leads from {folder.weights.name} to MXNet")
        return import_onnx(folder.onnx, stem, infer_folder(folder).signature)
    opened = load_reference(folder, "auto")
    assert isinstance(opened.engine, MxnetEngine | KerasEngine)
    network = opened.engine.network()
    opened.engine.close()
    nodes = network.document["nodes"]
    used = {node["name"] for node in nodes if node["op"] == "null"}
    states = _states(network.document)
    symbol.write_text(json.dumps(network.document, indent=2) + "\n", encoding="utf-8")
    write_params(
        params,
        {
            f"{'aux' if name in states else 'arg'}:{name}": array
            for name, array in network.arrays.items()
            if name in used
        },
    )
    head = nodes[network.document["heads"][0][0]]["name"]
    signature = opened.signature
    row = (0, *network.row_shape)
    outputs = tuple(replace(output, name=head) for output in signature.outputs)
    return replace(signature, inputs=(TensorSpec(network.input_name, row),), outputs=outputs)


def write_onnx(folder: ModelFolder, labels: tuple[str, ...], path: Path, compare: bool = True) -> str:
    """Write a model as one ONNX file for one picture at a time, with signature and labels in its metadata.

    A folder's own ``.onnx`` file is copied unchanged.

    :param compare: whether the written model is compared with the reference. Otherwise the folder's signature must be
        complete, and the caller compares.
    :returns: what the file was compared with, and the largest difference between probabilities.
    :raises ModelFormatError: if the model cannot be written, or the written model computes other outputs.
    """
    if not reference_kind(folder, "auto"):
        if folder.onnx is None:
            raise ModelFormatError(f"{folder.path}: nothing leads from {folder.weights.name} to ONNX here")
        shutil.copyfile(folder.onnx, path)
        return OWN_FILE
    order = (os.getcwd(), folder, labels, path.absolute(), compare)
    return run_export("app.serving.export", order, f"{folder.path} cannot be written as ONNX")


def run_export(module: str, order: tuple[Any, ...], failure: str) -> str:
    """Write and compare a model in a separate process.

    :param module: the module that does it, as a program.
    :param order: what the program reads.
    :param failure: the beginning of the error.
    :returns: what the written model was compared with.
    :raises ModelFormatError: if the model cannot be written, or the written model computes other outputs.
    """
    try:
        done = run_module(module, order, LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ModelFormatError(f"{failure}: it took more than {LONGEST_SECONDS} seconds") from None
    last_line = reason_of(done.stderr if done.returncode else done.stdout, None)
    if done.returncode:
        raise ModelFormatError(f"{failure}: {last_line[:500] or done.returncode}")
    return last_line


def write_openvino(folder: ModelFolder, path: Path, settings: Settings) -> tuple[Signature, Parity | None]:
    """Write a model in OpenVINO's format, as it is served.

    :param path: the ``.xml`` file; the weights are written beside it.
    :returns: the model's complete signature, and the difference from its reference, None if there is no reference.
    :raises ModelFormatError: if OpenVINO may not serve the model.
    """
    try:
        entry = entry_of(folder, "auto", settings.cache)
    except ConversionError as error:
        raise ModelFormatError(f"{folder.path} cannot be written for openvino: {error}") from None
    if entry.record.reason or entry.inference is None:
        raise ModelFormatError(f"{folder.path} cannot be written for openvino: {entry.record.reason}")
    shutil.copyfile(entry.path / MODEL, path)
    shutil.copyfile(entry.path / WEIGHTS, path.with_suffix(".bin"))
    return entry.inference.signature, entry.record.parity


def _states(document: dict[str, object]) -> set[str]:
    """Return the names of the auxiliary states among the arrays, by MXNet's own rules."""
    import mxnet as mx

    return set(mx.sym.load_json(json.dumps(document)).list_auxiliary_states())


def _export(working_dir: str, folder: ModelFolder, labels: tuple[str, ...], path: Path, compare: bool) -> str:
    os.chdir(working_dir)
    from app.engines.openvino import OpenvinoEngine

    kind = reference_kind(folder, "auto")
    missing = missing_reference(kind)
    inference = infer_folder(folder, kind)
    reference = None if missing or not compare else open_reference(folder, kind, inference.signature)
    export_onnx(read_network(folder, kind, inference.signature), path)
    if not compare:
        _write_metadata(path, inference.signature, labels)
        return "not compared"
    engine = OpenvinoEngine(read_model(path)[0])
    rows = samples(inference.signature.preprocess, inference.signature.inputs[0].shape)
    actual = predict_each(engine, rows)
    expected = actual if reference is None else predict_each(reference, rows)
    signature = settle(inference, expected).signature
    _write_metadata(path, signature, labels)
    if reference is None:
        return f"its probabilities were compared with nothing: {missing}"
    worst = difference(actual, expected, signature.postprocess.activation)
    if worst > LIMIT:
        raise ModelFormatError(f"its probabilities differ from those of {kind} by {worst:.1e}")
    return f"its probabilities differ from the model's own by {worst:.1e} at most, on test pictures"


def _write_metadata(path: Path, signature: Signature, labels: tuple[str, ...]) -> None:
    import onnx

    model = onnx.load(str(path))
    name, output = model.graph.input[0].name, model.graph.output[0]
    row = (0, *(item.dim_value for item in output.type.tensor_type.shape.dim[1:]))
    described = replace(
        signature,
        inputs=(TensorSpec(name, signature.inputs[0].shape),),
        outputs=(TensorSpec(output.name, row),),
    )
    document = {SIGNATURE: json.dumps(document_of(described)), LABELS: json.dumps(labels, ensure_ascii=False)}
    onnx.helper.set_model_props(model, document)
    onnx.save(model, str(path))


if __name__ == "__main__":
    sys.exit(run_job(_export))
