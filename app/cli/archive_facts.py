"""What there is to know of a model folder without running it, as lines of text."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.archive.contents import find_handler
from app.formats.archive.manifest import Manifest, read_manifest
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.inference import inferred_reasons
from app.types import Signature, TensorSpec

FIRST_LABELS = 3
Fact = tuple[str, list[str]]


def facts(folder: Path) -> Iterator[Fact]:
    """Describe a model folder: a name and one or more lines for each fact.

    :raises InvalidArchive: where its manifest is not usable.
    """
    manifest = read_manifest(folder)
    yield "model", [folder.name]
    yield from _manifest_facts(manifest)
    yield "handler", [_handler(folder, manifest)]
    model = _opened(folder)
    if isinstance(model, ModelFolder):
        yield from _inferred_facts(model)
        if model.labels is not None:
            yield "labels", [_labels(model.labels)]
    yield "files", [f"{size:>13,}  {name}" for name, size in _files(folder)]
    yield "served", [_served(folder, manifest, model)]


def kind_of(folder: Path) -> str:
    """Return what a model's weights are: MXNet, Keras or ONNX, or that it has its own code.

    :raises ModelFormatError: if its files contradict each other.
    """
    handler = find_handler(folder, read_manifest(folder))
    if handler is not None and not handler.is_stock:
        return "own code"
    model = open_model_folder(folder)
    kinds = {"MXNet": model.checkpoint, "Keras": model.h5, "ONNX": model.onnx}
    return ", ".join(kind for kind, file in kinds.items() if file is not None)


def shown(text: str) -> str:
    """A text as a terminal may have it: what comes from an archive could steer it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _manifest_facts(manifest: Manifest) -> Iterator[Fact]:
    if manifest.document is None:
        yield "manifest", ["none"]
        return
    yield "manifest", [f"of Multi Model Server {'0.x' if manifest.is_legacy else '1.x'}"]
    yield "version", [manifest.model_version or "not said"]
    runs = f" (its code runs under Python {platform.python_version()})" if manifest.runtime == "python2" else ""
    yield "runtime", [manifest.runtime + runs]
    if manifest.engine is not None:
        yield "engine", [f"{manifest.engine} {manifest.engine_version or ''}".rstrip()]


def _handler(folder: Path, manifest: Manifest) -> str:
    handler = find_handler(folder, manifest)
    if handler is None:
        return "none"
    if handler.is_stock:
        return f"{manifest.handler} (Multi Model Server's own vision service)"
    where = "own code" if handler.file is not None else f"there is no {handler.module.replace('.', '/')}.py"
    return f"{manifest.handler} ({where})"


def _opened(folder: Path) -> ModelFolder | str:
    try:
        return open_model_folder(folder)
    except ModelFormatError as error:
        return str(error)


def _inferred_facts(model: ModelFolder) -> Iterator[Fact]:
    """Yield the signature as the server completes it, with the reason for each part that is inferred."""
    try:
        inference = infer_folder(model)
    except ModelFormatError as error:
        yield "signature", [str(error)]
        return
    yield from _signature_facts(inference.signature)
    if reasons := inferred_reasons(inference.reasons):
        yield "inferred", [f"{name}: {reason}" for name, reason in reasons.items()]


def _signature_facts(signature: Signature) -> Iterator[Fact]:
    yield "inputs", [_tensor(tensor) for tensor in signature.inputs]
    if signature.outputs:
        yield "outputs", [_tensor(tensor) for tensor in signature.outputs]
    for name, options in (("preprocess", signature.preprocess), ("postprocess", signature.postprocess)):
        yield name, [", ".join(f"{key} {value}" for key, value in asdict(options).items())]


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name} ({', '.join(str(size) if size else 'any' for size in tensor.shape)})"


def _labels(labels: tuple[str, ...]) -> str:
    return f"{len(labels):,}: {'; '.join(labels[:FIRST_LABELS])}{'; …' if len(labels) > FIRST_LABELS else ''}"


def _files(folder: Path) -> list[tuple[str, int]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found]


def _served(folder: Path, manifest: Manifest, model: ModelFolder | str) -> str:
    handler = find_handler(folder, manifest)
    if handler is not None and not handler.is_stock:
        if handler.file is None:
            return f"not at all: it has no {handler.module.replace('.', '/')}.py, which its handler names"
        code = handler.file.relative_to(folder) if handler.file.is_relative_to(folder) else handler.file
        return f"by its own code in {code}, in processes of its own"
    if isinstance(model, str):
        return f"not at all: {model}"
    weights = model.checkpoint.params if model.checkpoint is not None else model.h5 or model.onnx
    return f"by Dimple itself, from {weights.name if weights else 'nothing'}"
