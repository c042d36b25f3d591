"""A persistent cache of models that were converted for OpenVINO.

``<cache>/<key>/`` holds ``model.xml`` with ``model.bin`` (OpenVINO's IR), ``answers.npy`` (the reference's outputs),
``record.json``, and ``inference.json``: the signature with the values inferred for it. The key is a hash of everything
that the result depends on, so an entry is never out of date; a changed file leaves its old entry behind. Entries are in
a folder of the instance, not beside the model: a models folder may be read-only, and archives are unpacked elsewhere
anyway.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.engines.base import Parity
from app.formats.folder import CONVERTED, ModelFolder
from app.formats.inference import Inference
from app.formats.openvino_graph import graph_files
from app.formats.signature import document_of, signature_of
from app.utils.files import sha256_file
from app.utils.json import read_json

FORMAT = 7
"""Version of the entries; an increase, after a change of conversion or comparison, invalidates them all."""
MAX_ENTRIES = 64
"""Limit on the number of entries; the least recently opened are removed first."""
FORGOTTEN_SECONDS = 24 * 3600
"""Age in seconds at which the folder of an unfinished build is removed."""

MODEL, WEIGHTS, INFERENCE, RECORD = "model.xml", "model.bin", "inference.json", "record.json"
ANSWERS = "answers.npy"


@dataclass(frozen=True)
class Record:
    """The results of a conversion.

    ``reason`` says why OpenVINO may not serve the model; empty if it may. ``unproven`` says why the model was not
    compared with its reference engine; empty if it was, or if it has none (ONNX). ``milliseconds`` is the time of one
    row on one core. ``files`` are the hashes of the entry's other files.
    """

    model: str
    precision: str = "fp32"
    reason: str = ""
    unproven: str = ""
    parity: Parity | None = None
    milliseconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A complete entry. ``inference`` is None if OpenVINO may not serve the model."""

    path: Path
    record: Record
    inference: Inference | None


def key_of(folder: ModelFolder, kind: str) -> str:
    """Return the key of a model's entry.

    It is a hash of the contents of the model's files, its signature, the version of the library that computes it, and
    the processor's instructions, since code may differ between processors.

    :param kind: the reference engine, as returned by :func:`app.engines.conversion.reference_kind`.
    """
    made = hashlib.sha256()
    # not the versions of MXNet and Keras, which only prove what is computed, and which a server may lack
    computed_by = "openvino", version("openvino")
    for part in (FORMAT, kind, *_stated(folder), platform.machine(), instructions(), computed_by):
        made.update(repr(part).encode() + b"\0")
    for file in sources(folder, kind):
        made.update(sha256_file(file).encode())
    return made.hexdigest()[:32]


def _stated(folder: ModelFolder) -> list[object]:
    """Return what a model folder states about its network, without the activation, which does not affect the entry."""
    signature = folder.signature
    if signature is None or "preprocess" not in folder.stated:
        return [signature, sorted(folder.stated), len(folder.labels or ()), folder.archived]
    return [signature.inputs, signature.preprocess, [output.name for output in signature.outputs]]


def sources(folder: ModelFolder, kind: str) -> list[Path]:
    """Return the files that a model's network is read from: the original, or else the converted network."""
    if kind == "keras" and folder.h5 is not None:
        return [folder.h5, *([folder.architecture] if folder.architecture is not None else [])]
    if kind == "mxnet" and folder.checkpoint is not None:
        return [folder.checkpoint.symbol, folder.checkpoint.params]
    if folder.onnx is not None:  # its weights may be beside it, in files whose names begin with its own
        return sorted(folder.path.glob(f"{glob.escape(folder.onnx.name)}*"))
    if folder.graph is not None:
        return graph_files(folder.graph)
    return [folder.path / CONVERTED / name for name in (MODEL, WEIGHTS)]


def read_entry(path: Path) -> Entry | None:
    """Read an entry and mark it as used; return None if it is missing or damaged in any way."""
    try:
        document: Any = read_json(path / RECORD)
        parity = Parity(**document.pop("parity")) if document["parity"] else document.pop("parity")
        record = Record(parity=parity, **document)
        if any(sha256_file(path / name) != digest for name, digest in record.files.items()):
            return None
        if not record.reason and {MODEL, WEIGHTS} - set(record.files):
            return None
        inference = read_inference(path) if INFERENCE in record.files else None
        os.utime(path)
    except Exception:  # a damaged file may raise anything
        return None
    return Entry(path, record, inference)


def read_inference(path: Path) -> Inference:
    """Read ``inference.json`` of a folder.

    :raises Exception: of any kind if the file is missing or damaged.
    """
    document: Any = read_json(path / INFERENCE)
    labels = document["labels"]
    return Inference(
        signature_of(document["signature"], path / INFERENCE),
        dict(document["reasons"]),
        None if labels is None else tuple(map(str, labels)),
        bool(document["settled"]),
    )


def write_inference(inference: Inference, path: Path) -> None:
    """Write ``inference.json`` into a folder."""
    document = asdict(inference) | {"signature": document_of(inference.signature)}
    (path / INFERENCE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_entry(path: Path, record: Record, inference: Inference | None) -> None:
    """Complete an entry. Its model, if there is one, is in its folder already.

    :param inference: the model's signature; None if OpenVINO may not serve it.
    """
    if inference is not None:
        write_inference(inference, path)
    files = {file.name: sha256_file(file) for file in sorted(path.iterdir()) if file.name != RECORD}
    document = asdict(replace(record, files=files))
    (path / RECORD).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def prune(cache_dir: Path, newest: Path) -> None:
    """Remove the entries and folders that are no longer needed.

    These are older entries of the newest entry's model, the least recently used entries above the limit, and the
    remains of killed builds. A process that has a removed file open keeps it until it exits.
    """
    made = read_entry(newest)
    entries = [path for path in cache_dir.iterdir() if path.is_dir() and path != newest]
    for path in entries:
        if path.name.startswith("."):
            if time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        elif made is not None and _is_of(path, made.record):
            shutil.rmtree(path, ignore_errors=True)
    left = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(left, key=lambda item: item.stat().st_mtime)[: max(0, len(left) + 1 - MAX_ENTRIES)]:
        shutil.rmtree(path, ignore_errors=True)


def _is_of(path: Path, record: Record) -> bool:
    """Return whether an entry is of the same model and precision, or cannot be read."""
    try:
        document = read_json(path / RECORD)
        return (document["model"], document["precision"]) == (record.model, record.precision)
    except (OSError, ValueError, LookupError, TypeError):
        return True


def instructions() -> str:
    """Return the names of the processor's instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
