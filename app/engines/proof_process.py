"""The proof that a converted network computes the same as its source, measured in a process of its own.

The reference may crash, and the server shall not import it. The child reads a pickle of (working folder, model folder,
choice, signature, inputs, another program's answers or None, path) from its standard input, and writes a pickle of a
:class:`Measurement` to that path.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.engines.cache import MODEL
from app.engines.conversion import LONGEST_COMPARISON, Reference, open_reference, reference_kind
from app.engines.onnx_reference import OnnxReference
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import ORDER, activate, difference, limit_of, predict_each, predict_within, samples
from app.engines.proof import ONNX, Comparison, Measurement, Program
from app.errors import ModelFormatError
from app.formats.folder import CONVERTED, ModelFolder
from app.types import Activation, FloatArray, Signature
from app.utils.error_text import reason_of
from app.utils.openvino_runtime import core
from app.utils.process import run_job, run_module

LONGEST_SECONDS = 1800


Answers = tuple[FloatArray, Program]
"""The outputs (N, classes) of a program for :func:`proof_inputs`."""


def measure(
    folder: ModelFolder, choice: str, signature: Signature, rows: FloatArray, answers: Answers | None = None
) -> Measurement:
    """Compute the same inputs by a model folder's reference and by what is in its folder ``converted``.

    :param choice: as in :func:`app.engines.loader.load`.
    :param rows: the inputs, of :func:`proof_inputs`.
    :param answers: the answers of another program, which is the reference then.
    :raises ModelFormatError: if the converted network cannot be computed.
    """
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "measurement"
        order = (os.getcwd(), folder, choice, signature, rows, answers, path)
        try:
            done = run_module("app.engines.proof_process", order, LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            raise ModelFormatError(f"{folder.path}: proving it took more than {LONGEST_SECONDS} seconds") from None
        if done.returncode:
            reason = reason_of(done.stderr) or f"its process ended with the status {done.returncode}"
            raise ModelFormatError(f"{folder.path} cannot be proven: {reason}")
        measured: Measurement = pickle.loads(path.read_bytes())
        return measured


def compare(
    programs: tuple[Program, Program], actual: FloatArray, expected: FloatArray, activation: Activation
) -> Comparison:
    """Compare an engine's outputs (N, classes) with the reference's for the same inputs.

    :param programs: the reference and the engine.
    """
    worst, same = difference(actual, expected, activation), 0
    if actual.shape == expected.shape:
        same = int((classes(actual, activation) == classes(expected, activation)).sum())
    return Comparison(*programs, len(expected), worst, same, limit_of(programs[0].name))


def classes(rows: FloatArray, activation: Activation) -> NDArray[np.int64]:
    """Return the number of the most probable class for outputs (N, classes); one column is one sigmoid output."""
    if rows.shape[1] == 1:
        return (activate(rows, activation)[:, 0] >= 0.5).astype(np.int64)
    numbers: NDArray[np.int64] = np.argmax(rows, axis=1)
    return numbers


def openvino_program() -> Program:
    """Return the program that computes the converted network."""
    return Program("openvino", version("openvino"))


def proof_inputs(signature: Signature, numbers: tuple[int, ...] = ORDER) -> FloatArray:
    """Return the inputs of a proof, the most telling ones first: (N, …).

    :param numbers: numbers of the samples, of :func:`app.engines.parity.samples`.
    """
    return samples(signature.preprocess, signature.inputs[0].shape, numbers)


def _measure(
    working_dir: str,
    folder: ModelFolder,
    choice: str,
    signature: Signature,
    rows: FloatArray,
    given: Answers | None,
    path: Path,
) -> None:
    os.chdir(working_dir)
    converted, activation = folder.path / CONVERTED, signature.postprocess.activation
    answers, reference, unproven = (*given, "") if given else _expected(folder, choice, signature, rows)
    proven, onnx = None, None
    engine = OpenvinoEngine(core().read_model(converted / MODEL))
    if answers is None or reference is None:
        answers = predict_each(engine, rows)  # so that later machines can be compared with this one
    else:
        actual = predict_each(engine, rows[: len(answers)])
        proven = compare((reference, openvino_program()), actual, answers, activation)
        if (converted / ONNX).is_file():
            portable = OnnxReference.load(converted / ONNX, replace(signature, outputs=()))
            few = predict_within(portable, rows[: len(answers)], LONGEST_COMPARISON)
            program = Program(portable.package, version(portable.package))
            onnx = compare((reference, program), few, answers[: len(few)], activation)
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    path.write_bytes(pickle.dumps(Measurement(answers, ORDER[: len(answers)], digest, unproven, proven, onnx)))


def _expected(
    folder: ModelFolder, choice: str, signature: Signature, rows: FloatArray
) -> tuple[FloatArray | None, Program | None, str]:
    """Return the reference's outputs and the reference, or the reason why there are none."""
    kind = reference_kind(folder, choice)
    try:
        if kind:
            reference: Reference = open_reference(folder, kind, signature)
        elif folder.onnx is not None:
            reference = OnnxReference.load(folder.onnx, signature)
        else:
            return None, None, "no other program here computes such files"
    except ModuleNotFoundError as error:
        return None, None, f"{error.name} is not installed here"
    except ModelFormatError as error:
        if kind:
            raise
        return None, None, str(error)
    program = Program(reference.package, version(reference.package))
    return predict_within(reference, rows, LONGEST_COMPARISON), program, ""


if __name__ == "__main__":
    sys.exit(run_job(_measure))
