"""Post-training quantization to 8-bit integers, by NNCF, in a separate process: it takes a gigabyte, and may crash.

The child reads a pickle of its :class:`QuantizationJob` from its standard input, and leaves the network and its record
in a folder. On failure it exits with 1, and the last line of its standard output is the reason.
"""

from __future__ import annotations

import datetime
import importlib.util
import pickle
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import Agreement
from app.engines.cache import MODEL, WEIGHTS, write_inference
from app.engines.conversion import predict_timed
from app.engines.conversion_process import ConversionError, entry_of
from app.engines.int8 import FOLDER, Record, content_hash, made_from, write_record
from app.engines.openvino import OpenvinoEngine
from app.errors import DataError, ModelFormatError
from app.formats.folder import ModelFolder
from app.types import FloatArray
from app.utils.error_text import reason_of
from app.utils.files import replacing_folder
from app.utils.openvino_runtime import core, import_openvino
from app.utils.process import run_module
from app.utils.progress import echo, track

MAKING = ".int8-making"
"""Folder in which a quantized network is made: beside its destination and hidden, so never packed."""
BATCH = 16


@dataclass(frozen=True)
class QuantizationJob:
    """A job for the child.

    ``model`` is the IR in 32-bit floats. ``calibration`` and ``held_out`` are files of consecutive float32 rows in the
    layout of the network's input. ``path`` is an empty folder. ``threshold`` applies to a network with one output:
    values above it mean the second of two classes.
    """

    model: Path
    calibration: Path
    held_out: Path
    path: Path
    made_from: str
    threshold: float


def can_quantize() -> bool:
    """Return whether NNCF is installed."""
    return importlib.util.find_spec("nncf") is not None


def quantize(
    folder: ModelFolder, choice: str, cache_dir: Path, inputs: tuple[Path, Path], least: float
) -> tuple[Record, float]:
    """Quantize a model, and put the network beside the model's files if it agrees with the model.

    No other process may quantize this model meanwhile. The destination is always complete: it has either the new
    network or its previous content.

    :param choice: ``auto`` or ``openvino``, as in :func:`app.engines.loader.load`.
    :param inputs: files of rows for calibration, and of other rows for comparison.
    :param least: the share of the other rows, 0-1, that must get the same class.
    :returns: the measurements, and the time of a row before quantization, in milliseconds on one core.
    :raises ModelFormatError: if OpenVINO may not serve the model, or NNCF cannot quantize it.
    :raises DataError: if too few rows get the same class.
    :raises OSError: if the model's folder is not writable.
    """
    try:
        entry = entry_of(folder, choice, cache_dir)
    except ConversionError as problem:
        raise ModelFormatError(f"{folder.name} cannot be converted for openvino: {problem}") from None
    if entry.record.reason:
        raise ModelFormatError(
            f"{folder.name} cannot be quantized, since openvino may not serve it: {entry.record.reason}"
        )
    with replacing_folder(folder.path / FOLDER, folder.path / MAKING) as making:
        assert entry.inference is not None  # set whenever there is no reason
        threshold = 0.0 if entry.inference.signature.postprocess.activation == "sigmoid" else 0.5
        order = QuantizationJob(entry.path / MODEL, *inputs, making, made_from(folder, choice), threshold)
        record, before = _run(folder.name, order)
        _check(folder.name, record.agreement, least)
        if not folder.stated >= {"preprocess", "postprocess"}:
            write_inference(entry.inference, making)
        write_record(record, making)
    return record, before


def remove(folder: ModelFolder) -> bool:
    """Remove a model's quantized network, and return whether there was one.

    :raises ModelFormatError: if the model's folder is not writable.
    """
    path, going = folder.path / FOLDER, folder.path / MAKING
    if not path.is_dir():
        return False
    shutil.rmtree(going, ignore_errors=True)
    try:
        path.rename(going)  # atomically, so that no reader sees a partial folder
        shutil.rmtree(going)
    except OSError as error:
        raise ModelFormatError(f"{folder.path} cannot be written to: {error}") from None
    return True


def _check(name: str, agreement: Agreement, least: float) -> None:
    if agreement.top1 < least:
        raise DataError(
            f"{name} stays as it is: quantized it calls {agreement.top1:.2%} of {agreement.samples:,} other pictures "
            f"as before, and {least:.2%} are wanted. Try more pictures of the kind that it will see (--samples), or "
            "allow more to change (--min-agreement)."
        )


def _run(name: str, order: QuantizationJob) -> tuple[Record, float]:
    done = run_module("app.engines.quantization", order, quiet=False)
    if done.returncode < 0:
        raise ModelFormatError(f"{name}: quantizing it ends in a crash ({signal.Signals(-done.returncode).name})")
    last_line = reason_of(done.stdout, None)
    if done.returncode:
        raise ModelFormatError(f"{name} cannot be quantized: {last_line[:300] or 'it does not say why'}")
    made: tuple[Record, float] = pickle.loads(bytes.fromhex(last_line))
    return made


def _make(order: QuantizationJob) -> tuple[Record, float]:
    """Quantize, write and measure the network; return the record, and the time of a row before quantization."""
    model = core().read_model(order.model)
    row_shape = tuple(model.input(0).shape)[1:]
    calibration, held_out = (_rows(path, row_shape) for path in (order.calibration, order.held_out))
    quantized = _quantize_model(model, calibration)
    import_openvino().save_model(quantized, order.path / MODEL, compress_to_fp16=False)
    del model, quantized
    top1 = _agreement(order, held_out)
    before, after = (predict_timed(path, held_out[:1])[1] for path in (order.model, order.path / MODEL))
    record = Record(
        made_from=order.made_from,
        made=content_hash((order.path / MODEL, order.path / WEIGHTS)),
        milliseconds=after,
        agreement=Agreement(
            top1=top1,
            samples=len(held_out),
            calibrated=len(calibration),
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        ),
    )
    return record, before


def _rows(path: Path, row_shape: tuple[int, ...]) -> FloatArray:
    return np.memmap(path, np.float32, mode="r").reshape(-1, *row_shape)


def _quantize_model(model: Any, rows: FloatArray) -> Any:
    """Quantize with weights of half the 8-bit range, and with the full range of each feature map on the pictures.

    Processors without VNNI add pairs of products in 16 bits, which overflow with the full range of weights. With half
    the range, processors with and without VNNI compute the same, and the agreement measured here holds everywhere. By
    default NNCF would end a map's range at the mean of the pictures' largest values, which cuts off light pictures.
    """
    import_openvino()  # before NNCF does, so that neither sends telemetry
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(40)
    return nncf.quantize(
        model,
        nncf.Dataset(_ProgressIterable(rows)),
        subset_size=len(rows),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE, activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )


class _ProgressIterable:
    """Calibration rows (1, …), with a progress display for each of NNCF's passes over them."""

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[FloatArray]:
        single = (self._rows[number : number + 1] for number in range(len(self._rows)))
        return track(single, "calibrated", len(self._rows), "pictures")


def _agreement(order: QuantizationJob, rows: FloatArray) -> float:
    """Return the share of the rows, 0-1, that get the same class before and after quantization."""
    before, after = (OpenvinoEngine.load(path, 0) for path in (order.model, order.path / MODEL))
    starts = range(0, len(rows), BATCH)
    same = 0
    for start in track(starts, f"compared, by {BATCH} pictures", len(starts), "batches"):
        batch = np.ascontiguousarray(rows[start : start + BATCH])
        called = [_predicted_classes(engine.predict(batch), order.threshold) for engine in (before, after)]
        same += int((called[0] == called[1]).sum())
    return same / len(rows)


def _predicted_classes(answers: FloatArray, threshold: float) -> Any:
    """Return the class of each output row, (N, classes)."""
    return answers.argmax(axis=1) if answers.shape[1] > 1 else answers[:, 0] > threshold


def main() -> int:
    """Run the job that the standard input describes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports an interruption
    order: QuantizationJob = pickle.load(sys.stdin.buffer)
    echo("calibrating")
    try:
        made = _make(order)
    except Exception as error:  # NNCF and OpenVINO may raise anything
        print(f"\n{reason_of(error)}")
        return 1
    print(f"\n{pickle.dumps(made).hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
