"""Converted networks in their models' own folders: portable, proven, and served without the program of the original.

``<model>/converted/`` holds ``model.xml`` with ``model.bin`` (OpenVINO's IR) and ``answers.npy``: the reference's
outputs for inputs of :func:`app.engines.parity.samples`. It may hold ``inference.json`` as in
:mod:`app.engines.cache`, for what the folder's ``signature.json`` leaves open. ``proof.json`` beside the folder has the
hashes and the comparison.

A machine that loads a network first computes these inputs and compares them with the answers, because code may differ
between processors. So every installation proves the network, also one without MXNet and Keras.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.engines.base import Parity
from app.engines.cache import ANSWERS, INFERENCE, MODEL, WEIGHTS, Entry, Record, instructions, read_inference, sources
from app.engines.conversion import measure, predict_timed, reference_kind, time_row
from app.engines.keras.engine import KERAS_MXNET, package_of
from app.engines.parity import ORDER
from app.engines.proof import (
    FORMAT,
    PROOF,
    Measurement,
    Program,
    Proof,
    changed_files,
    hashes,
    read_answers,
    read_proof,
    write_proof,
)
from app.engines.proof_process import compare, openvino_program, proof_inputs
from app.errors import ModelFormatError
from app.formats.folder import CONVERTED, ModelFolder
from app.formats.inference import Inference
from app.formats.keras_file import read_h5
from app.types import Signature
from app.utils.error_text import reason_of
from app.utils.files import atomic_write, file_lock, replacing_folder, sha256_file
from app.utils.json import read_json

log = logging.getLogger(__name__)

MAKING = ".converted-making"
"""Folder in which a converted network is written: beside its destination and hidden, so never packed."""
CHECKS = "checks"
"""Folder of the cache with the results of this machine, one file for each proof: copies of a model share it."""
NEEDED = {"mxnet": ("onnx",), "keras": ("h5py", "onnx"), "": ("onnx",)}
"""Modules that convert a file, by its reference engine."""


def converted_entry(folder: ModelFolder, choice: str, cache_dir: Path) -> Entry | None:
    """Return a model's converted network with what this machine measured; None if it has none that may be served.

    A network that was made from other files than those beside it is ignored, with a message in the log.

    :param choice: as in :func:`app.engines.loader.load`.
    :param cache_dir: folder of the cache, for the results of this machine.
    :raises ModelFormatError: if the network cannot be used, and there is no original beside it.
    :raises OSError: if the cache cannot be written.
    """
    path = folder.path / CONVERTED
    if not path.is_dir():
        return None
    try:
        proof = _current_proof(folder.path)
        inference = _inference(path, proof, folder)
        _check_origin(folder, choice, proof)
    except OSError as error:
        _ignore(folder, f"{error.strerror}: {error.filename}")
        return None
    except Exception as error:  # a damaged file may raise anything
        _ignore(folder, reason_of(error))
        return None
    return Entry(path, _checked(folder, proof, cache_dir), inference)


def _ignore(folder: ModelFolder, reason: str) -> None:
    """Log why a converted network is not served.

    :raises ModelFormatError: if there is no original that could be served instead.
    """
    text = f"{folder.path / CONVERTED} is not served: {reason}"
    if not folder.has_original:
        raise ModelFormatError(text)
    log.warning("%s; convert it again: dimple models convert %s", text, folder.name)


def _current_proof(folder: Path) -> Proof:
    """Read the proof of a model folder, and check that its converted files are those that were proven.

    :raises ValueError: if they are not.
    :raises ModelFormatError: if the proof is missing or damaged.
    """
    proof = read_proof(folder)
    if not {f"{CONVERTED}/{name}" for name in (MODEL, WEIGHTS)} <= set(proof.result):
        raise ValueError(f"{PROOF} does not name the converted network")
    if changed := changed_files(folder, proof.result):
        raise ValueError(f"{changed[0]} is not the file that was proven")
    return proof


def _inference(path: Path, proof: Proof, folder: ModelFolder) -> Inference:
    """Return the signature of a converted network, with the parts that the folder's ``signature.json`` states.

    :raises ValueError: if that states another input than the network has.
    """
    known = (path / INFERENCE).is_file()
    inference, stated = read_inference(path) if known else Inference(proof.signature, settled=True), folder.signature
    if stated is None:
        return inference
    signature = inference.signature
    own, theirs = signature.inputs[0].shape[1:], stated.inputs[0].shape[1:]
    if len(own) != len(theirs) or any(side not in (0, size) for side, size in zip(theirs, own, strict=True)):
        raise ValueError(f"signature.json says that the input is {theirs}, the network has {own}")
    if "preprocess" in folder.stated:
        signature = replace(signature, preprocess=stated.preprocess)
    if "postprocess" in folder.stated:
        signature = replace(signature, postprocess=stated.postprocess)
    return replace(inference, signature=signature)


def _check_origin(folder: ModelFolder, choice: str, proof: Proof) -> None:
    """Check that the original files, if they are beside the network, are those that it was made from.

    :raises ValueError: if they are not.
    """
    for file in sources(folder, reference_kind(folder, choice)) if folder.has_original else ():
        if proof.source.get(file.relative_to(folder.path).as_posix()) != sha256_file(file):
            raise ValueError(f"it was made from another file than {file.name}")


def _checked(folder: ModelFolder, proof: Proof, cache_dir: Path) -> Record:
    """Return this machine's measurements of a converted network. Its first process measures, the others wait."""
    (cache_dir / CHECKS).mkdir(parents=True, exist_ok=True)
    key = _key(folder.path)
    file = cache_dir / CHECKS / f"{key[:32]}.json"
    if record := _read_check(file, key):
        return replace(record, model=str(folder.path))
    with file_lock(cache_dir / ".lock"):
        if record := _read_check(file, key):  # another process was faster
            return replace(record, model=str(folder.path))
        record = _check(folder, proof)
        atomic_write(file, json.dumps({"key": key, "record": asdict(record)}) + "\n")
    return record


def _key(folder: Path) -> str:
    """Return a hash of all that this machine's measurements depend on."""
    parts = (FORMAT, sha256_file(folder / PROOF), platform.machine(), instructions(), version("openvino"))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read_check(file: Path, key: str) -> Record | None:
    try:
        document: Any = read_json(file)
        if document["key"] != key:
            return None
        record = document["record"]
        return Record(**{**record, "parity": Parity(**record["parity"]) if record["parity"] else None})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _check(folder: ModelFolder, proof: Proof) -> Record:
    """Compare a converted network with its reference's answers on this machine, and measure the time of a row."""
    path = folder.path / CONVERTED
    try:
        expected = read_answers(folder.path)
        if proof.converted is None or expected is None:  # no reference could compute the original
            return Record(str(folder.path), milliseconds=time_row(path, proof.signature), files=proof.result)
        reference = proof.converted.reference.name.replace(KERAS_MXNET, "keras")
        record = measure(path, proof.signature, expected, reference, proof.samples)
    except Exception as error:  # OpenVINO may raise anything
        return Record(str(folder.path), reason=f"this machine cannot compute it: {reason_of(error)}")
    return replace(record, model=str(folder.path), files=proof.result)


def write_converted(folder: ModelFolder, choice: str, entry: Entry) -> Path:
    """Write a cache entry's network into its model's folder, with its proof.

    :returns: the folder ``converted``, which is replaced as a whole.
    :raises ModelFormatError: if OpenVINO may not serve the model, or the folder cannot be written.
    """
    if entry.record.reason or entry.inference is None:
        raise ModelFormatError(f"{folder.name} cannot be served by openvino: {entry.record.reason}")
    files = sources(folder, reference_kind(folder, choice))
    target = folder.path / CONVERTED
    try:
        with replacing_folder(target, folder.path / MAKING) as path:
            for name in (MODEL, WEIGHTS, ANSWERS, INFERENCE):
                if (entry.path / name).is_file():
                    shutil.copyfile(entry.path / name, path / name)
        source, parity, signature = hashes(folder.path, files), entry.record.parity, entry.inference.signature
        measured, milliseconds = compare_stored(
            folder.path, signature, reference_program(folder, parity) if parity else None
        )
        write_proof(make_proof(folder.path, source, signature, measured, milliseconds), folder.path)
    except OSError as error:
        raise ModelFormatError(f"{folder.path} cannot be written: {error}") from None
    return target


def reference_program(folder: ModelFolder, parity: Parity) -> Program:
    """Return the program of a comparison; MXNet computes the files of Keras over other backends."""
    package = parity.reference
    if package == "keras" and folder.h5 is not None:
        package = package_of(read_h5(folder.h5, folder.architecture))
    return Program(package, version(package))


def compare_stored(
    folder: Path, signature: Signature, reference: Program | None, numbers: Sequence[int] = ORDER
) -> tuple[Measurement, float]:
    """Compare the network in a model's folder ``converted`` with the answers there.

    :param reference: the program that computed the answers; None if there is none.
    :param numbers: numbers of the inputs of the answers, in :func:`app.engines.parity.samples`.
    :returns: the comparison, and the time of a row in milliseconds on one core.
    """
    expected, comparison = read_answers(folder), None
    chosen = tuple(numbers[: None if expected is None else len(expected)])
    rows = proof_inputs(signature, chosen)
    actual, milliseconds = predict_timed(folder / CONVERTED / MODEL, rows)
    if expected is not None and reference is not None:
        comparison = compare((reference, openvino_program()), actual, expected, signature.postprocess.activation)
    unproven = "" if comparison else "no reference computes the original"
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    return Measurement(actual, chosen, digest, unproven, comparison), milliseconds


def make_proof(
    folder: Path, source: dict[str, str], signature: Signature, measured: Measurement, milliseconds: float
) -> Proof:
    """Return the proof of the network in a model's folder ``converted``, of which all files are written.

    :param source: hashes of the original files, by name.
    :param milliseconds: the time of a row on one core.
    """
    return Proof(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source=source,
        result=hashes(folder, sorted((folder / CONVERTED).iterdir())),
        samples=measured.samples,
        inputs_sha256=measured.inputs_sha256,
        signature=signature,
        converted=measured.converted,
        unproven=measured.unproven,
        engine=openvino_program(),
        onnx=measured.onnx,
        no_onnx=measured.no_onnx,
        milliseconds=milliseconds,
    )


def check_can_convert(folder: ModelFolder, choice: str) -> None:
    """Check that the packages that convert a model are installed.

    :raises ModelFormatError: with the command that converts it elsewhere, if one is missing.
    """
    needed = NEEDED[reference_kind(folder, choice)] if folder.graph is None else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ModelFormatError(
            f"{folder.path} is not converted, and this installation only serves: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. On a complete installation (make install), "
            f"run: bin/dimple models convert {folder.name}. Then copy its folder {CONVERTED} into {folder.path}"
        )
