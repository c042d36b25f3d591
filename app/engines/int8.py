"""8-bit integer networks, stored in the model's own folder so that they are packed and moved with it.

``<model>/int8/`` holds ``model.xml`` with ``model.bin`` (OpenVINO's IR), ``record.json``, and ``inference.json`` as in
:mod:`app.engines.cache`. Such a network is served as long as the files that it was made from are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.engines.base import Agreement, LoadedEngine, LoadNetwork
from app.engines.cache import INFERENCE, MODEL, RECORD, WEIGHTS, read_inference, sources
from app.engines.conversion import reference_kind
from app.engines.openvino import OpenvinoEngine
from app.errors import EngineUnavailable
from app.formats.folder import ModelFolder
from app.formats.inference import Inference
from app.formats.signature import FILE_NAME as SIGNATURE
from app.formats.signature import read_signature
from app.utils.error_text import reason_of
from app.utils.files import sha256_file
from app.utils.json import read_json

log = logging.getLogger(__name__)

FOLDER = "int8"
AGAIN = "quantize it again with `dimple models quantize`, or remove it with --remove"


@dataclass(frozen=True)
class Record:
    """The description of a quantized network.

    ``made_from`` and ``made`` are hashes of the files that it was made from, and of its own files. ``milliseconds`` is
    the time of one row on one core.
    """

    made_from: str
    made: str
    milliseconds: float
    agreement: Agreement


def open_quantized(
    folder: ModelFolder, choice: str, load_network: LoadNetwork = OpenvinoEngine.load
) -> LoadedEngine | None:
    """Open a model's quantized network; return None if it has none, or, with a log message, if it may not be served.

    :param choice: ``auto`` or ``openvino``, as in :func:`app.engines.loader.load`, like ``load_network``.
    """
    path = folder.path / FOLDER
    if not path.is_dir():
        return None
    try:
        record = _read(path / RECORD)
        if record.made_from != made_from(folder, choice):
            log.warning("%s: its int8 network was made from other files and is not served; %s", folder.name, AGAIN)
            return None
        if record.made != content_hash((path / MODEL, path / WEIGHTS)):
            raise ValueError("it is not what was written")
        inference = _read_inference(path, folder)
        engine = load_network(path / MODEL, record.milliseconds)
    except EngineUnavailable:
        raise
    except Exception as error:  # a damaged file may raise anything
        log.warning("%s: its int8 network cannot be served (%s); %s", folder.name, reason_of(error), AGAIN)
        return None
    signature = folder.signature if {"preprocess", "postprocess"} <= folder.stated else None
    return LoadedEngine(
        engine,
        "openvino",
        signature or inference.signature,
        None,
        "int8",
        record.agreement,
        inference.labels,
        inference.reasons,
    )


def _read_inference(path: Path, folder: ModelFolder) -> Inference:
    """Read the inferred signature; earlier versions wrote the signature alone, and only if the model had none."""
    if (path / INFERENCE).is_file():
        return read_inference(path)
    return Inference(folder.signature or read_signature(path / SIGNATURE))


def write_record(record: Record, path: Path) -> None:
    """Write ``record.json`` into the folder of a quantized network."""
    (path / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def made_from(folder: ModelFolder, choice: str) -> str:
    """Return the hash of all that a quantized network depends on: the weights, and how pictures become inputs."""
    files = sources(folder, reference_kind(folder, choice))
    own = folder.path / SIGNATURE
    return content_hash([*files, own] if own.is_file() else files)


def content_hash(files: Iterable[Path]) -> str:
    """Return one SHA-256 hash of the contents of several files."""
    every = hashlib.sha256()
    for path in files:
        every.update(bytes.fromhex(sha256_file(path)))
    return every.hexdigest()


def _read(path: Path) -> Record:
    document: Any = read_json(path)
    return Record(**{**document, "agreement": Agreement(**document["agreement"])})
