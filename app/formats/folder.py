"""A model folder: which of its files is what.

A folder is an unpacked MMS archive (manifest, signature, labels, weights), or just the weights: what is missing is
worked out from what is there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.signature import FILE_NAME as SIGNATURE
from app.formats.signature import read_signature
from app.formats.symbol import describe_checkpoint
from app.types import Signature

MANIFEST = Path("MAR-INF") / "MANIFEST.json"
SYNSET = "synset.txt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")
"""What a model may be called: model-archiver's own rule."""


@dataclass(frozen=True)
class Checkpoint:
    """An MXNet checkpoint: the graph and its parameters."""

    symbol: Path
    params: Path


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds. Either ``checkpoint`` or ``h5`` is there, or both.

    ``signature`` and ``labels`` are None where the folder does not say and only the engine can tell.
    """

    path: Path
    name: str
    version: str
    signature: Signature | None
    labels: tuple[str, ...] | None
    checkpoint: Checkpoint | None
    h5: Path | None


def is_model_folder(path: Path) -> bool:
    """Say whether a folder looks like a model: it holds a manifest, a checkpoint's graph or an ``.h5`` file."""
    if not path.is_dir() or path.name.startswith("."):
        return False
    return (path / MANIFEST).is_file() or any(path.glob("*-symbol.json")) or any(path.glob("*.h5"))


def open_model_folder(path: Path) -> ModelFolder:
    """Find out what a model folder holds.

    The model is called what its folder is called; the manifest gives the version (``1.0`` where it is silent).

    :raises ModelFormatError: where there are no weights, or files contradict each other.
    """
    if not NAME.fullmatch(path.name):
        raise ModelFormatError(f"{path.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    checkpoint, h5 = _find_checkpoint(path), _only_one(path, "*.h5")
    if checkpoint is None and h5 is None:
        raise ModelFormatError(f"{path} holds no weights: neither *-symbol.json with *.params nor *.h5")
    return ModelFolder(
        path=path,
        name=path.name,
        version=_read_version(path / MANIFEST),
        signature=_find_signature(path, checkpoint),
        labels=_read_labels(path / SYNSET),
        checkpoint=checkpoint,
        h5=h5,
    )


def write_manifest(path: Path, name: str) -> None:
    """Write the manifest of a model without code of its own, which MMS serves by its stock vision service."""
    document = {
        "runtime": "python",
        "model": {"modelName": name, "handler": "mxnet_vision_service:handle", "modelVersion": "1.0"},
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }
    (path / MANIFEST).parent.mkdir(parents=True)
    (path / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _only_one(path: Path, pattern: str) -> Path | None:
    found = sorted(path.glob(pattern))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelFormatError(f"{path} holds more than one {pattern}: {names}. Leave the one that counts")
    return found[0] if found else None


def _find_checkpoint(path: Path) -> Checkpoint | None:
    symbol = _only_one(path, "*-symbol.json")
    if symbol is None:
        return None
    prefix = symbol.name.removesuffix("-symbol.json")
    epochs = [file for file in path.glob("*.params") if re.fullmatch(re.escape(prefix) + r"-\d+\.params", file.name)]
    if not epochs:
        raise ModelFormatError(f"{path} holds {symbol.name} but no {prefix}-0000.params (any epoch's number will do)")
    return Checkpoint(symbol, max(epochs, key=lambda file: int(file.stem.rsplit("-", 1)[1])))


def _find_signature(path: Path, checkpoint: Checkpoint | None) -> Signature | None:
    if (path / SIGNATURE).is_file():
        return read_signature(path / SIGNATURE)
    return describe_checkpoint(checkpoint.symbol, checkpoint.params) if checkpoint else None


def _read_version(path: Path) -> str:
    if not path.is_file():
        return "1.0"
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from None
    model = manifest.get("model", {}) if isinstance(manifest, dict) else None
    if not isinstance(model, dict):
        raise ModelFormatError(f"{path} must hold a JSON object with an object 'model'")
    return str(model.get("modelVersion", "1.0"))


def _read_labels(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())
