"""A model folder and the roles of its files.

A folder is an unpacked MMS archive (manifest, signature, labels, weights), or just the weights: missing parts are
inferred from the others. If the manifest determines which of several checkpoints MMS would load, that checkpoint
counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import BadParameter, InvalidArchive, ModelFormatError
from app.formats.archive.manifest import CURRENT as MANIFEST
from app.formats.archive.manifest import LEGACY, NAME, NO_HANDLER, Manifest, named_checkpoint, read_manifest
from app.formats.keras_file import architecture_beside
from app.formats.labels import find_labels, read_labels
from app.formats.mxnet_params import no_graph
from app.formats.openvino_graph import SAVED_MODEL, SUFFIXES, is_graph
from app.formats.signature import FILE_NAME as SIGNATURE
from app.formats.signature import read_stated, signature_of
from app.formats.torch_pickle import describe_torch
from app.types import Signature
from app.utils.files import sha256_file
from app.utils.json import read_json

KERAS = (".h5", ".hdf5", ".keras")
MXNET = ("-symbol.json", ".params")
ONNX = (".onnx", ".onnx.data")
CONVERTED = "converted"
"""Folder with the converted network, which :mod:`app.engines.converted` reads."""
SAVED_FOLDER = "saved_model"
"""Folder of a model folder that holds a SavedModel."""
SHIPPED = ("imagenet", "smile", "dogcat")
"""Names of the models that Dimple has itself."""
LONGEST_NAME = 100
"""Largest number of characters in the name of a model that is trained here."""
SHAPES = "model-shapes.json"
"""SageMaker's description of a checkpoint's input."""
OTHERS = {
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".safetensors": "PyTorch",
    ".caffemodel": "Caffe",
    ".mlmodel": "Core ML",
}
"""Suffixes of other programs' files, which are recognised but not opened."""


@dataclass(frozen=True)
class Checkpoint:
    """An MXNet checkpoint: the graph and its parameters."""

    symbol: Path
    params: Path


@dataclass(frozen=True)
class ModelFolder:
    """Contents of a model folder. ``checkpoint``, ``h5``, ``onnx`` and ``graph`` are all None only if the folder holds
    nothing but its converted network.

    ``signature`` and ``labels`` are None if the folder has none; :mod:`app.formats.infer_signature` then infers them.
    ``stated`` names the parts, of :data:`app.formats.signature.PARTS`, that the folder's ``signature.json`` has.
    ``archived`` is true if the folder has a manifest of MMS, and ``legacy`` if the manifest is of MMS 0.x.
    ``architecture`` is the ``model.json`` of an ``.h5`` that holds weights alone. ``graph`` is a file or a folder that
    OpenVINO's front ends read (:mod:`app.formats.openvino_graph`).
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
    stated: frozenset[str] = frozenset()
    archived: bool = False
    graph: Path | None = None

    @property
    def has_original(self) -> bool:
        """Return whether the folder holds more than its converted network."""
        return any(file is not None for file in (self.checkpoint, self.h5, self.onnx, self.graph))

    @property
    def weights(self) -> Path:
        """Return the file, or the folder, that holds the network's weights."""
        params = self.checkpoint.params if self.checkpoint is not None else None
        return params or self.h5 or self.onnx or self.graph or self.path


def is_model_folder(path: Path) -> bool:
    """Return whether a folder looks like a model: it holds a manifest, a converted network or any program's weights."""
    if not path.is_dir() or path.name.startswith("."):
        return False
    manifests = (path / MANIFEST, path / LEGACY, path / CONVERTED / "model.xml", path / SAVED_FOLDER / SAVED_MODEL)
    return any(file.is_file() for file in manifests) or any(is_model_file(file) for file in path.iterdir())


def is_model_file(path: Path) -> bool:
    """Return whether a file looks like a network or its weights, of any program."""
    name = path.name.lower()
    return not name.startswith(".") and name.endswith((*KERAS, *MXNET, *ONNX, *SUFFIXES, *OTHERS)) and path.is_file()


def open_model_folder(path: Path) -> ModelFolder:
    """Read a model folder.

    The folder's name is the model's name. The manifest gives the version: ``snapshot`` for an archive of MMS 0.x, which
    has none, and ``1.0`` if a later manifest has none. Of several checkpoints the manifest's counts
    (:func:`app.formats.archive.manifest.named_checkpoint`); if that does not exist, it is the only symbol with its
    latest epoch.

    :raises InvalidArchive: in MMS's words, if the manifest cannot be used, or names no handler and there is nothing
        that our engines could compute.
    :raises ModelFormatError: if there are no weights, or files contradict each other.
    """
    if not NAME.fullmatch(path.name):
        raise ModelFormatError(f"{path.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    manifest = read_manifest(path)
    checkpoint, h5, onnx = _find_checkpoint(path, manifest), _only_one(path, *KERAS), _only_one(path, ".onnx")
    graph = _find_graph(path) if checkpoint is None and h5 is None and onnx is None else None
    if checkpoint is None and h5 is None and onnx is None and graph is None and not (path / CONVERTED).is_dir():
        if manifest.document is not None and manifest.handler is None:
            raise InvalidArchive(NO_HANDLER)
        raise _no_weights(path)
    described, labels = path / SIGNATURE, find_labels(path)
    signature, stated = read_stated(described) if described.is_file() else (sagemaker_signature(path), frozenset())
    return ModelFolder(
        path=path,
        name=path.name,
        version=manifest.model_version or "1.0",
        signature=signature,
        labels=read_labels(labels) if labels is not None else None,
        checkpoint=checkpoint,
        h5=h5,
        legacy=manifest.is_legacy,
        onnx=onnx,
        architecture=architecture_beside(h5) if h5 is not None else None,
        stated=stated,
        archived=manifest.document is not None,
        graph=graph,
    )


def check_own_name(name: str, parameter: str) -> None:
    """Check that a model that somebody trains may have this name.

    :raises BadParameter: if it cannot be a model's name, is too long, or a shipped model has it.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        expected = f"at most {LONGEST_NAME} letters, digits, '_', '-' and '.', a letter or digit first"
        raise BadParameter(parameter, name, expected)
    if name.lower() in SHIPPED:  # lower: some file systems ignore case
        raise BadParameter(parameter, name, f"another one: Dimple ships {', '.join(SHIPPED)} itself")


def sagemaker_signature(path: Path) -> Signature | None:
    """Return the input that ``model-shapes.json`` of SageMaker's MXNet containers states; None if there is none.

    The file is a list of ``{"name", "shape"}``; the first axis is the batch.

    :raises ModelFormatError: if it lists anything but one input.
    """
    file = path / SHAPES
    if not file.is_file():
        return None
    try:
        (entry,) = read_json(file)
        document = {"inputs": [{"data_name": entry["name"], "data_shape": [0, *entry["shape"][1:]]}]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelFormatError(f"{file} must list one input with its name and shape: {error}") from None
    return signature_of(document, file)


def write_manifest(path: Path, name: str, description: str = "") -> None:
    """Write the manifest of a model without its own code, which MMS serves by its stock vision service.

    :param description: sentence about the model; none if empty.
    """
    model = {"modelName": name, "handler": "mxnet_vision_service:handle", "modelVersion": "1.0"}
    document = {
        "runtime": "python",
        "model": model | ({"description": description} if description else {}),
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }
    (path / MANIFEST).parent.mkdir(parents=True)
    (path / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def digest_of(folder: Path) -> str:
    """Return the digest of a model folder: SHA-256 over the paths, lengths and hashes of its files, sorted by path.

    :returns: 64 hexadecimal digits.
    :raises ModelFormatError: if the folder cannot be read.
    """
    made = hashlib.sha256()
    try:
        for path in model_files(folder):
            name = path.relative_to(folder).as_posix()
            made.update(f"{name}\0{path.stat().st_size}\0{sha256_file(path)}\n".encode())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be read: {error}") from None
    return made.hexdigest()


def model_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a model folder that belong to the model, sorted by path. Hidden files do not."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _find_graph(path: Path) -> Path | None:
    """Return a file or a folder in a model folder, or the folder itself, that OpenVINO's front ends read."""
    for folder in (path, path / SAVED_FOLDER):
        if is_graph(folder):
            return folder
    return _only_one(path, *SUFFIXES)


def _only_one(path: Path, *suffixes: str) -> Path | None:
    files = sorted(file for file in path.iterdir() if file.name.endswith(suffixes) and not file.name.startswith("."))
    if len(files) > 1:
        names, kinds = ", ".join(file.name for file in files), " or ".join(f"*{suffix}" for suffix in suffixes)
        raise ModelFormatError(f"{path} holds more than one {kinds}: {names}. Keep only the right one")
    return files[0] if files else None


def other_program(file: Path) -> ModelFormatError | None:
    """Return the error for another program's file, with the way to one that Dimple opens; None for any other file."""
    program = next((program for suffix, program in OTHERS.items() if file.name.lower().endswith(suffix)), "")
    if not program:
        return None
    way = "Export the network as ONNX and import that"
    if program == "PyTorch":
        program, way = describe_torch(file)
    return ModelFormatError(f"{file} is a file of {program}, which Dimple does not open. {way}")


def _no_weights(path: Path) -> ModelFormatError:
    """Return the error for a folder without weights that an engine opens."""
    files = sorted(file for file in path.iterdir() if is_model_file(file))
    params = next((file for file in files if file.name.endswith(".params")), None)
    if params is not None:
        return no_graph(params)
    known = "*-symbol.json with *.params, *.h5, *.keras, *.onnx, *.tflite, *.pb, a SavedModel or *.xml with *.bin"
    for file in files:
        if file.name.endswith(".onnx.data"):
            graph = file.name.removesuffix(".data")
            return ModelFormatError(f"{file} holds an ONNX network's weights, but not its graph: put {graph} beside it")
        if error := other_program(file):
            return error
    return ModelFormatError(f"{path} holds no weights: there is no {known}")


def _find_checkpoint(path: Path, manifest: Manifest) -> Checkpoint | None:
    if named := named_checkpoint(path, manifest):
        return Checkpoint(*named)
    symbol = _only_one(path, "-symbol.json")
    if symbol is None:
        return None
    prefix = symbol.name.removesuffix("-symbol.json")
    epochs = [file for file in path.glob("*.params") if re.fullmatch(re.escape(prefix) + r"-\d+\.params", file.name)]
    if not epochs:
        raise ModelFormatError(f"{path} holds {symbol.name} but no {prefix}-0000.params (any epoch's number will do)")
    return Checkpoint(symbol, max(epochs, key=lambda file: int(file.stem.rsplit("-", 1)[1])))
