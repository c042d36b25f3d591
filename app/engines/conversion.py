"""Reference engines, conversion to OpenVINO's format, and the proof that both compute the same."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engines.base import Engine, LoadedEngine, Network, Parity
from app.engines.cache import MODEL, Record, write_entry
from app.engines.keras.engine import KerasEngine
from app.engines.keras.network import read_network as read_keras
from app.engines.mxnet.checkpoint import read_checkpoint
from app.engines.mxnet.compat import is_installed
from app.engines.mxnet.engine import MxnetEngine
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import convert_file, read_model
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import LIMIT, difference, predict_each, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_signature import infer_folder
from app.formats.inference import Inference, check_row, settle
from app.types import FloatArray, Signature, TensorSpec
from app.utils.error_text import reason_of
from app.utils.openvino_runtime import compile_model, core, import_openvino


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


TIMED_SECONDS = 0.3


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
    reference = open_reference(folder, kind, inference.signature) if kind and not unproven else None
    opened()
    record = Record(str(folder.path), unproven=f"no reference was available: {unproven}" if unproven else "")
    try:
        if not kind:
            assert folder.onnx is not None
            signature = convert_file(folder, inference.signature, path)
            check_row(folder.onnx, signature.outputs[0].name, signature.outputs[0].shape)
            inference = replace(inference, signature=signature)
        else:
            _convert(network or read_network(folder, kind, inference.signature), path)
        record, inference = _measure(record, kind, reference, inference, path)
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


def _measure(
    record: Record, kind: str, reference: Engine | None, inference: Inference, path: Path
) -> tuple[Record, Inference]:
    """Compare with the reference, if there is one, and measure the time of a row."""
    signature = inference.signature
    rows = samples(signature.preprocess, signature.inputs[0].shape)
    model = core().read_model(path / MODEL)
    engine = OpenvinoEngine(model)
    parity, reason = None, ""
    answers = predict_each(engine, rows)
    if reference is not None:
        expected = predict_each(reference, rows)
        inference = settle(inference, expected)
        worst = difference(answers, expected, inference.signature.postprocess.activation)
        today = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        parity = Parity(worst, len(rows), kind, today)
        if worst == math.inf:
            reason = f"its answers are not numbers, or not as many as those of {kind}"
        elif worst > LIMIT:
            reason = f"its probabilities differ from those of {kind} by {worst:.1e}; {LIMIT:.0e} is allowed"
    else:
        inference = settle(inference, answers)
    took = milliseconds(compile_model(model, streams=1, threads=1), rows[:1])
    return replace(record, reason=reason, parity=parity, milliseconds=round(took, 3)), inference


def milliseconds(compiled: Any, row: FloatArray) -> float:
    """Return the time of a row (1, …) in milliseconds: the minimum of many runs, since other load only adds to it."""
    request = compiled.create_infer_request()
    times: list[float] = []
    ends = time.perf_counter() + TIMED_SECONDS
    while len(times) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        request.infer({0: row}, share_inputs=True)
        times.append(time.perf_counter() - started)
    return min(times) * 1000
