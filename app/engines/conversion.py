"""From a network to OpenVINO's files, and the proof that they are equal."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engines.base import Opened, Parity
from app.engines.cache import MODEL, Record, write_entry
from app.engines.onnx_export import export_onnx
from app.engines.onnx_file import convert_file
from app.engines.openvino_engine import OpenvinoEngine, compile_model
from app.engines.openvino_runtime import core, import_openvino
from app.engines.parity import LIMIT, difference
from app.engines.reference import load_reference, network_of, reference_kind
from app.engines.samples import samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.types import FloatArray, Signature

TIMED_SECONDS = 0.3


def build(folder: ModelFolder, choice: str, path: Path, opened: Callable[[], None] = lambda: None) -> None:
    """Make a model's entry of the cache: its IR and what was measured, or the reason why OpenVINO may not serve it.

    To be called in a process of its own: what it imports is large, and what it calls may crash.

    :param path: an empty folder.
    :param opened: called once the reference engine has opened the model.
    :raises ModelFormatError: where the reference engine refuses the model.
    :raises OSError: where the machine is at fault, not the model.
    """
    reference = load_reference(folder, choice) if reference_kind(folder, choice) else None
    opened()
    record, signature = Record(str(folder.path)), None
    try:
        signature = convert_file(folder, path) if reference is None else _convert(reference, path)
        record = _measure(record, reference, signature, path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the exporter and OpenVINO raise everything there is
        record = Record(record.model, reason=f"it cannot be converted: {_in_a_line(error)}")
    if record.reason:
        for file in path.iterdir():
            file.unlink()
    write_entry(path, record, None if record.reason or folder.signature else signature)


def _convert(reference: Opened, path: Path) -> Signature:
    network = network_of(reference)
    if min(network.row_shape) < 1:
        raise ModelFormatError(f"its input {network.row_shape} has no fixed size")
    onnx = path / "model.onnx"
    export_onnx(network, onnx)
    openvino = import_openvino()
    # convert_model folds normalizations into weights now, so that the weights are mapped as they are in the file
    openvino.save_model(openvino.convert_model(str(onnx)), path / MODEL, compress_to_fp16=False)
    onnx.unlink()
    return reference.signature


def _measure(record: Record, reference: Opened | None, signature: Signature, path: Path) -> Record:
    """Compare with the reference, where there is one, and find out how long a row takes."""
    rows = samples(signature.preprocess, signature.inputs[0].shape)
    model = core().read_model(path / MODEL)
    engine = OpenvinoEngine(model)
    parity, reason = None, ""
    if reference is not None:
        worst = difference(engine, reference.engine, rows, signature.postprocess.activation)
        today = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        parity = Parity(worst, len(rows), reference.kind, today)
        if worst == math.inf:
            reason = f"its answers are not numbers, or not as many as those of {reference.kind}"
        elif worst > LIMIT:
            reason = f"its probabilities differ from those of {reference.kind} by {worst:.1e}; {LIMIT:.0e} is allowed"
    else:
        engine.predict(rows[:1])
    took = milliseconds(compile_model(model, streams=1, threads=1), rows[:1])
    return replace(record, reason=reason, parity=parity, milliseconds=round(took, 3))


def milliseconds(compiled: Any, row: FloatArray) -> float:
    """What a row (1, …) takes: the best of many runs, since what else the machine does only ever adds."""
    request = compiled.create_infer_request()
    times: list[float] = []
    ends = time.perf_counter() + TIMED_SECONDS
    while len(times) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        request.infer({0: row}, share_inputs=True)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def _in_a_line(error: Exception) -> str:
    if isinstance(error, ModelFormatError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
