"""Quantization to 8-bit integers after training, by NNCF, in a process of its own: it takes a gigabyte, and may crash.

The child is given a pickle of its :class:`QuantizationJob` on its standard input, and leaves the network and its
record in a
folder. Where it cannot, it ends with 1, and the last line of its standard output is the reason.
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
from app.engines.conversion import milliseconds
from app.engines.conversion_process import ConversionError, entry_of
from app.engines.int8 import FOLDER, Record, content_hash, made_from, write_record
from app.engines.openvino import OpenvinoEngine
from app.errors import DataError, ModelFormatError
from app.formats.folder import ModelFolder
from app.types import FloatArray
from app.utils.error_text import reason_of
from app.utils.files import replacing_folder
from app.utils.openvino_runtime import compile_model, core, import_openvino
from app.utils.process import run_module
from app.utils.progress import echo, track

MAKING = ".int8-making"
"""Where a quantized network is made: beside its place, hidden, and so never packed."""
BATCH = 16


@dataclass(frozen=True)
class QuantizationJob:
    """What the child is to do.

    ``model`` is the IR of 32-bit floats. ``calibration`` and ``held_out`` are files of float32 rows as the network
    takes them, one after another. ``path`` is an empty folder. ``threshold`` is that of a network with one answer:
    above it, that is the second of two classes.
    """

    model: Path
    calibration: Path
    held_out: Path
    path: Path
    made_from: str
    threshold: float


def can_quantize() -> bool:
    """Say whether NNCF is installed."""
    return importlib.util.find_spec("nncf") is not None


def quantize(
    folder: ModelFolder, choice: str, cache_dir: Path, inputs: tuple[Path, Path], least: float
) -> tuple[Record, float]:
    """Quantize a model, and put the network beside the model's files if it calls pictures as the model does.

    Nobody else may quantize this model meanwhile. Whatever happens, what is in its place is whole: the new network, or
    what was there before.

    :param choice: ``auto`` or ``openvino``, as :func:`app.engines.loader.load` takes it.
    :param inputs: files of rows to calibrate with, and of others to compare on.
    :param least: the part of the others, 0-1, that must be called the same.
    :returns: what was measured, and what a row takes unquantized, in milliseconds on one core.
    :raises ModelFormatError: where OpenVINO may not serve the model, or NNCF cannot quantize it.
    :raises DataError: where too few are called the same.
    :raises OSError: where the model's folder cannot be written to.
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
        assert entry.inference is not None  # there is one unless there is a reason
        threshold = 0.0 if entry.inference.signature.postprocess.activation == "sigmoid" else 0.5
        order = QuantizationJob(entry.path / MODEL, *inputs, making, made_from(folder, choice), threshold)
        record, before = _run(folder.name, order)
        _check(folder.name, record.agreement, least)
        if not folder.stated >= {"preprocess", "postprocess"}:
            write_inference(entry.inference, making)
        write_record(record, making)
    return record, before


def remove(folder: ModelFolder) -> bool:
    """Take a model's quantized network away. Says whether there was one.

    :raises OSError: where the model's folder cannot be written to.
    """
    path, going = folder.path / FOLDER, folder.path / MAKING
    if not path.is_dir():
        return False
    shutil.rmtree(going, ignore_errors=True)
    path.rename(going)  # at once, so that nobody sees half of it
    shutil.rmtree(going)
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
    """Quantize, write the network, and measure it, and how long a row takes without that."""
    model = core().read_model(order.model)
    row_shape = tuple(model.input(0).shape)[1:]
    calibration, held_out = (_rows(path, row_shape) for path in (order.calibration, order.held_out))
    quantized = _quantize_model(model, calibration)
    import_openvino().save_model(quantized, order.path / MODEL, compress_to_fp16=False)
    del model, quantized
    top1 = _agreement(order, held_out)
    before, after = (_milliseconds(path, held_out[:1]) for path in (order.model, order.path / MODEL))
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


def _milliseconds(path: Path, row: FloatArray) -> float:
    return round(milliseconds(compile_model(core().read_model(path), streams=1, threads=1), row), 3)


def _rows(path: Path, row_shape: tuple[int, ...]) -> FloatArray:
    return np.memmap(path, np.float32, mode="r").reshape(-1, *row_shape)


def _quantize_model(model: Any, rows: FloatArray) -> Any:
    """Quantize with weights of half the range of 8 bits, and with all that the pictures showed of each map's range.

    Processors without VNNI add pairs of products in 16 bits, which overflow with the whole range of weights. With half
    of it they and those with VNNI compute the same, and the agreement that is measured here holds everywhere. NNCF's
    own way would end a map's range at the mean of the pictures' largest values, which cuts off light pictures.
    """
    import_openvino()  # before NNCF does, so that neither reports to anybody
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(40)
    return nncf.quantize(
        model,
        nncf.Dataset(_ProgressIterable(rows)),
        subset_size=len(rows),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )


class _ProgressIterable:
    """Rows (1, …) to calibrate with. NNCF goes over them more than once; each time is shown."""

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[FloatArray]:
        single = (self._rows[number : number + 1] for number in range(len(self._rows)))
        return track(single, "calibrated", len(self._rows), "pictures")


def _agreement(order: QuantizationJob, rows: FloatArray) -> float:
    """Return the part of the rows, 0-1, for which the largest answer is the same class before and after."""
    before, after = (OpenvinoEngine.load(path, 0) for path in (order.model, order.path / MODEL))
    starts = range(0, len(rows), BATCH)
    same = 0
    for start in track(starts, f"compared, by {BATCH} pictures", len(starts), "batches"):
        batch = np.ascontiguousarray(rows[start : start + BATCH])
        called = [_predicted_classes(engine.predict(batch), order.threshold) for engine in (before, after)]
        same += int((called[0] == called[1]).sum())
    return same / len(rows)


def _predicted_classes(answers: FloatArray, threshold: float) -> Any:
    """Return the class of each row of answers (N, classes)."""
    return answers.argmax(axis=1) if answers.shape[1] > 1 else answers[:, 0] > threshold


def main() -> int:
    """Do what the order on the standard input says."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells of an interruption
    order: QuantizationJob = pickle.load(sys.stdin.buffer)
    echo("calibrating")
    try:
        made = _make(order)
    except Exception as error:  # NNCF and OpenVINO raise everything there is
        print(f"\n{reason_of(error)}")
        return 1
    print(f"\n{pickle.dumps(made).hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
