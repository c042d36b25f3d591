"""The proof of a rescued model: what was compared with what, and the answers that every machine must get.

``proof.json`` is in the model folder. ``converted/`` beside it holds ``model.xml`` with ``model.bin`` (OpenVINO's IR),
``model.onnx`` if there is a way from the source to ONNX, and ``answers.npy``: the reference's outputs for some inputs
of :func:`app.engines.parity.samples`, which anybody can compute again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.cache import ANSWERS
from app.errors import ModelFormatError
from app.formats.folder import CONVERTED
from app.formats.signature import document_of, signature_of
from app.types import FloatArray, Signature
from app.utils.files import atomic_write, sha256_file
from app.utils.json import read_json

PROOF, ONNX = "proof.json", "model.onnx"
FORMAT = 1


@dataclass(frozen=True)
class Program:
    """A program that computed the network: its package and version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Comparison:
    """The difference between a network and its reference on the same inputs.

    ``max_abs_difference`` is between probabilities, 0-1; for other outputs, relative to the reference's largest value.
    ``same_class`` counts the ``inputs`` whose most probable class is the same. ``limit`` is the largest acceptable
    difference.
    """

    reference: Program
    engine: Program
    inputs: int
    max_abs_difference: float
    same_class: int
    limit: float

    @property
    def holds(self) -> bool:
        """Return whether the difference is acceptable."""
        return self.max_abs_difference <= self.limit


@dataclass(frozen=True)
class Proof:
    """The content of ``proof.json``.

    ``source`` and ``result`` are the SHA-256 of the files, by their names in the model folder. ``samples`` are the
    numbers of the inputs in :func:`app.engines.parity.samples`, and ``inputs_sha256`` is the hash of their bytes;
    ``signature`` gives their shape and range. ``converted`` is None if no reference could compute the source, for the
    reason in ``unproven``: the stored answers are those of ``engine`` then, OpenVINO at the time. ``onnx`` is None if
    there is no ONNX file, or it is the source; ``no_onnx`` says why. ``milliseconds`` is the time of one row on one
    core.
    """

    date: str
    source: dict[str, str]
    result: dict[str, str]
    samples: tuple[int, ...]
    inputs_sha256: str
    signature: Signature
    converted: Comparison | None
    unproven: str
    engine: Program
    onnx: Comparison | None
    no_onnx: str
    milliseconds: float


@dataclass(frozen=True)
class Measurement:
    """The results of a proof.

    ``answers`` are the reference's outputs (N, classes); those of the converted network if the reference could not be
    used, for the reason in ``unproven``. The other fields are as in :class:`Proof`.
    """

    answers: FloatArray
    samples: tuple[int, ...]
    inputs_sha256: str
    unproven: str
    converted: Comparison | None
    onnx: Comparison | None = None
    no_onnx: str = "only the network for OpenVINO was written"


def write_proof(proof: Proof, folder: Path) -> None:
    """Write ``proof.json`` into a model folder."""
    document = {"format": FORMAT, **asdict(proof), "signature": document_of(proof.signature)}
    atomic_write(folder / PROOF, json.dumps(document, indent=2) + "\n")


def read_proof(folder: Path) -> Proof:
    """Read ``proof.json`` of a model folder.

    :raises ModelFormatError: if it is missing or damaged.
    """
    file = folder / PROOF
    try:
        document: Any = read_json(file)
        if document.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        signature = signature_of(document.pop("signature"), file)
        converted, onnx = _comparison(document.pop("converted")), _comparison(document.pop("onnx"))
        numbers, engine = tuple(map(int, document.pop("samples"))), Program(**document.pop("engine"))
        return Proof(signature=signature, samples=numbers, converted=converted, engine=engine, onnx=onnx, **document)
    except FileNotFoundError:
        raise ModelFormatError(f"{folder} has no proof: make it with dimple rescue {folder}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{file} cannot be read: {type(error).__name__}: {error}") from None


def read_answers(folder: Path) -> FloatArray | None:
    """Return the stored outputs (N, classes) of the reference; None if there are none.

    :raises ModelFormatError: if they are damaged.
    """
    file = folder / CONVERTED / ANSWERS
    try:
        return np.asarray(np.load(file, allow_pickle=False), np.float32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise ModelFormatError(f"{file} cannot be read: {error}") from None


def hashes(folder: Path, files: list[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their names in a model folder."""
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def changed_files(folder: Path, known: dict[str, str]) -> list[str]:
    """Return the names of the files that are missing, or have another content than the known hash."""
    return [
        name for name, digest in known.items() if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]


def _comparison(document: Any) -> Comparison | None:
    if document is None:
        return None
    reference, engine = Program(**document.pop("reference")), Program(**document.pop("engine"))
    return Comparison(reference=reference, engine=engine, **document)
