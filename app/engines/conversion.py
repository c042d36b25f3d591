"""Reference engines, conversion to OpenVINO's format, and the proof that both compute the same."""

from __future__ import annotations

import datetime
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.engines.base import LoadedEngine, Network, Parity
from app.engines.cache import ANSWERS, MODEL, Record, write_entry
from app.engines.keras.engine import KerasEngine
from app.engines.keras.network import read_network as read_keras
from app.engines.mxnet.compat import is_installed
from app.engines.mxnet.engine import MxnetEngine, read_checkpoint
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import convert_file, convert_graph, has_quantized_maps, read_model
from app.engines.onnx_reference import OnnxReference
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import ORDER, difference, limit_of, predict_each, predict_within, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_signature import infer_folder
from app.formats.inference import Inference, check_row, settle
from app.types import FloatArray, Signature, TensorSpec
from app.utils.error_text import reason_of
from app.utils.openvino_runtime import core, import_openvino


def reference_kind(folder: ModelFolder, choice: str) -> str:
    """Return the reference engine of a folder: ``mxnet`` or ``keras``, empty if there is none (ONNX).

    :param choice: ``keras`` prefers the ``.h5`` file if the folder has both; all other values prefer the checkpoint.
    """
    if folder.h5 is not None and (folder.checkpoint is None or choice == "keras"):
        return "keras"
    return "mxnet" if folder.checkpoint is not None else ""


def load_reference(folder: ModelFolder, choice: str) -> LoadedEngine:
    """Load a folder's network into its reference engine, and infer what its signature leaves open.

    :raises ModelFormatError: if there is no such engine or it is not installed, or the weights cannot be read or
        contradict the signature.
    """
    kind = reference_kind(folder, choice)
    if not kind:
        raise ModelFormatError(f"{folder.path} holds no weights that an engine can open")
    if missing := missing_reference(kind):
        raise ModelFormatError(f"{folder.path} cannot be opened by {kind}: {missing}")
    inference = infer_folder(folder, kind)
    engine = open_reference(folder, kind, inference.signature)
    if not inference.settled:
        first, preprocess = inference.signature.inputs[0], inference.signature.preprocess
        try:
            inference = settle(inference, predict_each(engine, samples(preprocess, first.shape)))
        except Exception:
            engine.close()
            raise
    return LoadedEngine(engine, kind, inference.signature, labels=inference.labels, reasons=inference.reasons)


def missing_reference(kind: str) -> str:
    """Return why a reference engine cannot be used, and what to do; empty if it can.

    :param kind: the reference engine, as returned by :func:`reference_kind`; empty if there is none.
    """
    if not kind or is_installed(kind):
        return ""
    package = "keras-mxnet with mxnet" if kind == "keras" else "mxnet"
    return f"{package} is not installed; pip install -r requirements.txt installs it"


def read_network(folder: ModelFolder, kind: str, signature: Signature) -> Network:
    """Read a folder's network for conversion.

    :param kind: ``mxnet`` or ``keras``.
    :raises ModelFormatError: if the weights cannot be read or contradict the signature.
    """
    first = signature.inputs[0]
    output = signature.outputs[0].name if signature.outputs else ""
    if kind == "mxnet":
        assert folder.checkpoint is not None
        return read_checkpoint(folder.checkpoint.symbol, folder.checkpoint.params, first.name, first.shape, output)
    assert folder.h5 is not None
    network, row = read_keras(folder.h5, first.shape, output)
    _check_keras(folder, signature, (0, *network.row_shape), row)
    return network


def open_reference(folder: ModelFolder, kind: str, signature: Signature) -> MxnetEngine | KerasEngine:
    """Open a folder's network in the engine ``mxnet`` or ``keras``.

    :raises ModelFormatError: if the weights cannot be read or contradict the signature.
    """
    first = signature.inputs[0]
    output = signature.outputs[0].name if signature.outputs else ""
    if kind == "mxnet":
        assert folder.checkpoint is not None
        return MxnetEngine.load(folder.checkpoint.symbol, folder.checkpoint.params, first.name, first.shape, output)
    assert folder.h5 is not None
    engine = KerasEngine.load(folder.h5, first.shape, output)
    try:
        _check_keras(folder, signature, engine.input_shape, engine.output)
    except ModelFormatError:
        engine.close()
        raise
    return engine


def _check_keras(folder: ModelFolder, signature: Signature, input_shape: tuple[int, ...], output: TensorSpec) -> None:
    """Check that an ``.h5`` file takes the input that the signature states, and gives a row."""
    assert folder.h5 is not None
    first = signature.inputs[0]
    if first.shape[1:] != input_shape[1:]:
        raise ModelFormatError(
            f"{folder.path}: signature.json says that the input is {first.shape}, {folder.h5.name} says {input_shape}"
        )
    check_row(folder.h5, output.name, output.shape)


TIMED_SECONDS = 0.1
LONGEST_COMPARISON = 120.0
"""Seconds after which no further input is compared: ``onnx`` is slow, and others compute all of them in far less."""
Reference = MxnetEngine | KerasEngine | OnnxReference

log = logging.getLogger(__name__)


def build(folder: ModelFolder, choice: str, path: Path, opened: Callable[[], None] = lambda: None) -> None:
    """Build a model's cache entry: its IR and measurements, or the reason why OpenVINO may not serve it.

    A reference engine that is not installed proves nothing, and the record says so. Call it in a process of its own:
    it imports large libraries, and calls code that may crash.

    :param path: an empty folder.
    :param opened: called once the reference engine has opened the model.
    :raises ModelFormatError: if the reference engine rejects the model.
    :raises OSError: if the machine is at fault, not the model.
    """
    kind = reference_kind(folder, choice)
    inference = infer_folder(folder, kind)
    unproven = missing_reference(kind)
    network = read_network(folder, kind, inference.signature) if unproven else None
    reference: Reference | None = open_reference(folder, kind, inference.signature) if kind and not unproven else None
    opened()
    record = Record(str(folder.path), unproven=f"no reference was available: {unproven}" if unproven else "")
    try:
        if not kind:
            source = folder.onnx or folder.graph
            assert source is not None
            signature = (convert_file if folder.onnx is not None else convert_graph)(folder, inference.signature, path)
            check_row(source, signature.outputs[0].name, signature.outputs[0].shape)
            inference = replace(inference, signature=signature)
            reference = _reference_of(source, signature) if folder.onnx is not None else None
        else:
            _convert(network or read_network(folder, kind, inference.signature), path)
        record, inference = _prove(record, reference, inference, path)
        if record.reason and folder.onnx is not None and has_quantized_maps(folder.onnx):
            convert_file(folder, inference.signature, path, in_floats=True)
            record, inference = _prove(replace(record, reason=""), reference, inference, path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the exporter and OpenVINO may raise anything
        record = replace(record, reason=f"it cannot be converted: {reason_of(error)}")
    if record.reason:
        for file in path.iterdir():
            file.unlink()
    write_entry(path, record, None if record.reason else inference)


def _convert(network: Network, path: Path) -> None:
    onnx = path / "model.onnx"
    export_onnx(network, onnx)
    model, _output = read_model(onnx)
    # normalizations are folded into the weights now, so the weights are memory-mapped as they are in the file
    import_openvino().save_model(model, path / MODEL, compress_to_fp16=False)
    onnx.unlink()


def _reference_of(file: Path, signature: Signature) -> OnnxReference | None:
    """Return an ONNX file's reference; None, with a warning in the log, if it cannot compute the file."""
    try:
        return OnnxReference.load(file, signature)
    except ModelFormatError as error:
        log.warning("%s; its conversion is not proven", error)
        return None


def _prove(record: Record, reference: Reference | None, inference: Inference, path: Path) -> tuple[Record, Inference]:
    """Compare a converted network with its reference, if there is one, and leave the reference's outputs beside it."""
    signature = inference.signature
    shape = signature.inputs[0].shape
    if reference is None:
        engine = OpenvinoEngine(core().read_model(path / MODEL))
        inference = settle(inference, predict_each(engine, samples(signature.preprocess, shape)))
        return replace(record, milliseconds=time_row(path, inference.signature)), inference
    expected = predict_within(reference, samples(signature.preprocess, shape, ORDER), LONGEST_COMPARISON)
    np.save(path / ANSWERS, expected)
    inference = settle(inference, expected)
    name = "keras" if isinstance(reference, KerasEngine) else reference.package
    return replace(measure(path, inference.signature, expected, name), model=record.model), inference


def measure(
    path: Path, signature: Signature, expected: FloatArray, reference: str, chosen: Sequence[int] = ORDER
) -> Record:
    """Compare the network in a folder with its reference's outputs, and measure the time of a row.

    :param expected: the reference's outputs (N, classes) for the first N of the chosen inputs.
    :param chosen: numbers of inputs, as for :func:`app.engines.parity.samples`.
    """
    rows = samples(signature.preprocess, signature.inputs[0].shape, chosen[: len(expected)])
    answers, milliseconds = predict_timed(path / MODEL, rows)
    worst = difference(answers, expected, signature.postprocess.activation)
    today = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    parity = Parity(worst, len(rows), reference, today)
    reason = refusal(worst, reference, limit_of(reference))
    return Record("", reason=reason, parity=parity, milliseconds=milliseconds)


def time_row(path: Path, signature: Signature) -> float:
    """Return the time of a row of the network in a folder, in milliseconds on one core."""
    row = samples(signature.preprocess, signature.inputs[0].shape, (0,))
    return predict_timed(path / MODEL, row)[1]


def predict_timed(path: Path, rows: FloatArray) -> tuple[FloatArray, float]:
    """Compute inputs (N, …) one by one with a network, ``model.xml``, on one core.

    :returns: its outputs (N, classes), and the time of a row in milliseconds: the minimum, since other load only adds
        to it.
    """
    engine = OpenvinoEngine(core().read_model(path))  # compiled for concurrent rows, which have one core each
    answers: list[FloatArray] = []
    times: list[float] = []
    ends = time.perf_counter() + TIMED_SECONDS
    while len(times) < max(3, len(rows)) or time.perf_counter() < ends:
        number = len(times) % len(rows)
        started = time.perf_counter()
        answers.append(engine.predict(rows[number : number + 1]))
        times.append(time.perf_counter() - started)
    return np.concatenate(answers[: len(rows)]), round(min(times) * 1000, 3)


def refusal(worst: float, reference: str, limit: float) -> str:
    """Return the reason why a conversion with this difference from its reference may not be used; empty if it may."""
    if worst == math.inf:
        return f"its answers are not numbers, or not as many as those of {reference}"
    if worst > limit:
        return f"its probabilities differ from those of {reference} by {worst:.1e}; {limit:.0e} is allowed"
    return ""
