"""A model folder: which of its files is what.

A folder is an unpacked MMS archive (manifest, signature, labels, weights), or just the weights: what is missing is
worked out from what is there. Where the manifest says which of several checkpoints MMS would load, that one counts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidArchive, ModelFormatError
from app.formats.archive.contents import named_checkpoint
from app.formats.archive.manifest import CURRENT as MANIFEST
from app.formats.archive.manifest import LEGACY, NO_HANDLER, Manifest, read_manifest
from app.formats.keras_h5 import architecture_beside
from app.formats.missing import no_graph
from app.formats.signature import FILE_NAME as SIGNATURE
from app.formats.signature import read_signature
from app.formats.symbol import describe_checkpoint
from app.types import Signature

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
    """What a model folder holds. At least one of ``checkpoint``, ``h5`` and ``onnx`` is there.

    ``signature`` and ``labels`` are None where the folder does not say and only the engine can tell. ``legacy`` says
    that it was an archive of MMS 0.x. ``architecture`` is the ``model.json`` of an ``.h5`` that holds weights alone.
    """

    path: Path
    name: str
    version: str
    signature: Signature | None
    labels: tuple[str, ...] | None
    checkpoint: Checkpoint | None
    h5: Path | None
    legacy: bool = False
    onnx: Path | None = None
    architecture: Path | None = None


def is_model_folder(path: Path) -> bool:
    """Say whether a folder looks like a model: it holds a manifest, a checkpoint's graph, ``.h5`` or ``.onnx``."""
    if not path.is_dir() or path.name.startswith("."):
        return False
    manifests = (path / MANIFEST, path / LEGACY)
    weights = ("*-symbol.json", "*.h5", "*.onnx")
    return any(file.is_file() for file in manifests) or any(any(path.glob(pattern)) for pattern in weights)


def open_model_folder(path: Path) -> ModelFolder:
    """Find out what a model folder holds.

    The model is called what its folder is called. The manifest gives the version (``snapshot`` for an archive of MMS
    0.x, which has none; ``1.0`` where the manifest of a later one is silent) and, of several checkpoints, the one that
    counts (:func:`app.formats.archive.contents.named_checkpoint`); where that is not there, it is the only symbol with
    its latest epoch.

    :raises InvalidArchive: in MMS's words, where the manifest cannot be used, or names no handler and there is nothing
        that our engines could compute.
    :raises ModelFormatError: where there are no weights, or files contradict each other.
    """
    if not NAME.fullmatch(path.name):
        raise ModelFormatError(f"{path.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    manifest = read_manifest(path)
    checkpoint, h5, onnx = _find_checkpoint(path, manifest), _only_one(path, "*.h5"), _only_one(path, "*.onnx")
    if checkpoint is None and h5 is None and onnx is None:
        if manifest.document is not None and manifest.handler is None:
            raise InvalidArchive(NO_HANDLER)
        if params := sorted(path.glob("*.params")):
            raise no_graph(params[0])
        raise ModelFormatError(f"{path} holds no weights: neither *-symbol.json with *.params nor *.h5 nor *.onnx")
    return ModelFolder(
        path=path,
        name=path.name,
        version=manifest.model_version or "1.0",
        signature=_find_signature(path, checkpoint),
        labels=_read_labels(path / SYNSET),
        checkpoint=checkpoint,
        h5=h5,
        legacy=manifest.is_legacy,
        onnx=onnx,
        architecture=architecture_beside(h5) if h5 is not None else None,
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


def _find_checkpoint(path: Path, manifest: Manifest) -> Checkpoint | None:
    if named := named_checkpoint(path, manifest):
        return Checkpoint(*named)
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


def _read_labels(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())
