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
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Parity
from app.engines.cache import (
    ANSWERS,
    INFERENCE,
    MODEL,
    WEIGHTS,
    Entry,
    Record,
    instructions,
    read_inference,
    sources,
)
from app.engines.conversion import measure, reference_kind, time_row
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import LIMIT, activate, difference, predict_each, samples
from app.errors import ModelFormatError
from app.formats.folder import CONVERTED, ModelFolder
from app.formats.inference import Inference
from app.formats.signature import document_of, signature_of
from app.types import FloatArray, Signature
from app.utils.error_text import reason_of
from app.utils.files import atomic_write, file_lock, replacing_folder, sha256_file
from app.utils.json import read_json
from app.utils.openvino_runtime import core

log = logging.getLogger(__name__)

PROOF = "proof.json"
MAKING = ".converted-making"
"""Folder in which a converted network is written: beside its destination and hidden, so never packed."""
FORMAT = 1
CHECKS = "checks"
"""Folder of the cache with the results of this machine, one file for each model folder."""
NEEDED = {"mxnet": ("mxnet", "onnx"), "keras": ("keras", "mxnet", "onnx"), "": ("onnx",)}
"""Modules that convert a file, by its reference engine."""
REFERENCES = {"keras-mxnet": "keras"}
"""Names of reference engines that differ from their packages'."""


@dataclass(frozen=True)
class Proof:
    """The part of ``proof.json`` that serving needs.

    ``source`` and ``result`` are the hashes of the original files and of the converted ones, by their names in the
    model folder. ``samples`` are the numbers of the inputs that the answers belong to, and ``signature`` gives their
    shape and range. ``parity`` is None if no reference could compute the original.
    """

    source: dict[str, str]
    result: dict[str, str]
    samples: tuple[int, ...]
    signature: Signature
    parity: Parity | None


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
        proof = read_proof(folder.path)
        inference = _inference(path, proof, folder)
        _check_origin(folder, choice, proof)
    except Exception as error:  # a damaged file may raise anything
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else reason_of(error)
        _report_unusable(folder, reason)
        return None
    return Entry(path, _checked(folder, proof, cache_dir), inference)


def _report_unusable(folder: ModelFolder, reason: str) -> None:
    """Log why a converted network is not served.

    :raises ModelFormatError: if there is no original that could be served instead.
    """
    text = f"{folder.path / CONVERTED} is not served: {reason}"
    if not has_original(folder):
        raise ModelFormatError(text)
    log.warning("%s; convert it again: dimple models convert %s", text, folder.name)


def has_original(folder: ModelFolder) -> bool:
    """Return whether a folder has the file that its converted network was made from."""
    return folder.checkpoint is not None or folder.h5 is not None or folder.onnx is not None


def read_proof(folder: Path) -> Proof:
    """Read the proof of a model folder, and check that its converted files are those that were proven.

    :raises ValueError: if they are not, or the proof is of another version.
    :raises Exception: of any kind if the proof is missing or damaged.
    """
    document: Any = read_json(folder / PROOF)
    if document["format"] != FORMAT:
        raise ValueError(f"{PROOF} is of version {document['format']}; this Dimple reads version {FORMAT}")
    comparison, parity = document["converted"], None
    if comparison is not None:
        package = comparison["reference"]["name"]
        reference = REFERENCES.get(package, package)
        parity = Parity(comparison["max_abs_difference"], comparison["inputs"], reference, document["date"])
    result = dict(document["result"])
    if not {f"{CONVERTED}/{name}" for name in (MODEL, WEIGHTS)} <= set(result):
        raise ValueError(f"{PROOF} does not name the converted network")
    for name, digest in result.items():
        if sha256_file(folder / name) != digest:
            raise ValueError(f"{name} is not the file that was proven")
    signature = signature_of(document["signature"], folder / PROOF)
    return Proof(dict(document["source"]), result, tuple(map(int, document["samples"])), signature, parity)


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
    for file in sources(folder, reference_kind(folder, choice)) if has_original(folder) else ():
        if proof.source.get(file.name) != sha256_file(file):
            raise ValueError(f"it was made from another file than {file.name}")


def _checked(folder: ModelFolder, proof: Proof, cache_dir: Path) -> Record:
    """Return this machine's measurements of a converted network. Its first process measures, the others wait."""
    (cache_dir / CHECKS).mkdir(parents=True, exist_ok=True)
    key = _key(folder.path)
    own = hashlib.sha256(str(folder.path.absolute()).encode()).hexdigest()[:32]
    file = cache_dir / CHECKS / f"{own}.json"
    if record := _read_check(file, key):
        return record
    with file_lock(cache_dir / ".lock"):
        if record := _read_check(file, key):  # another process was faster
            return record
        record = _check(folder, proof)
        atomic_write(file, json.dumps({"key": key, "record": asdict(record)}) + "\n")
    return record


def _key(folder: Path) -> str:
    """Return a hash of all that this machine's measurements depend on."""
    parts = (FORMAT, sha256_file(folder / PROOF), platform.machine(), instructions(), _version("openvino"))
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
        if proof.parity is None:  # no reference could compute the original
            return Record(str(folder.path), milliseconds=time_row(path, proof.signature), files=proof.result)
        expected: FloatArray = np.load(path / ANSWERS, allow_pickle=False)
        record = measure(path, proof.signature, expected, proof.parity.reference, proof.samples)
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
                shutil.copyfile(entry.path / name, path / name)
        source = {file.name: sha256_file(file) for file in files}
        parity = entry.record.parity
        write_proof(folder.path, source, entry.inference.signature, _program(parity.reference) if parity else None)
    except OSError as error:
        raise ModelFormatError(f"{folder.path} cannot be written: {error}") from None
    return target


def write_proof(folder: Path, source: dict[str, str], signature: Signature, reference: dict[str, str] | None) -> None:
    """Compare the network in a model's folder ``converted`` with the answers there, and write the proof.

    :param source: hashes of the original files, by name.
    :param reference: package and version (``name``, ``version``) that computed the answers; None if there is none.
    """
    path = folder / CONVERTED
    expected: FloatArray = np.load(path / ANSWERS, allow_pickle=False)
    numbers = tuple(range(len(expected)))
    rows = samples(signature.preprocess, signature.inputs[0].shape, numbers)
    document = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": source,
        "result": {f"{CONVERTED}/{file.name}": sha256_file(file) for file in sorted(path.iterdir())},
        "samples": numbers,
        "inputs_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        "signature": document_of(signature),
        "converted": _comparison(path, signature, rows, expected, reference) if reference is not None else None,
        "unproven": "" if reference is not None else "no reference computes the original",
        "onnx": None,
        "no_onnx": "only the network for OpenVINO was written",
        "milliseconds": time_row(path, signature),
    }
    atomic_write(folder / PROOF, json.dumps(document, indent=2) + "\n")


def _program(reference: str) -> dict[str, str]:
    """Return the package and the version of a reference engine."""
    package = {name: package for package, name in REFERENCES.items()}.get(reference, reference)
    return {"name": package, "version": _version(package)}


def _comparison(
    path: Path, signature: Signature, rows: FloatArray, expected: FloatArray, reference: dict[str, str]
) -> dict[str, Any]:
    """Return the comparison of a converted network with its reference's outputs (N, classes) for rows (N, …)."""
    activation = signature.postprocess.activation
    actual = predict_each(OpenvinoEngine(core().read_model(path / MODEL)), rows)
    ours, theirs = (_decide(activate(outputs, activation)) for outputs in (actual, expected))
    return {
        "reference": reference,
        "engine": _program("openvino"),
        "inputs": len(rows),
        "max_abs_difference": difference(actual, expected, activation),
        "same_class": int((ours == theirs).sum()),
        "limit": LIMIT,
    }


def _decide(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of each row's class; one column is the probability of the second of two classes."""
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] >= 0.5).astype(np.int64)
    numbers: NDArray[np.int64] = np.argmax(probabilities, axis=1)
    return numbers


def check_can_convert(folder: ModelFolder, choice: str) -> None:
    """Check that the packages that convert a model are installed.

    :raises ModelFormatError: with the command that converts it elsewhere, if one is missing.
    """
    kind = reference_kind(folder, choice)
    if missing := [name for name in NEEDED[kind] if find_spec(name) is None]:
        raise ModelFormatError(
            f"{folder.path} is not converted, and this installation only serves: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. On a complete installation (make install), "
            f"run: bin/dimple models convert {folder.name}. Then copy its folder {CONVERTED} into {folder.path}"
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
