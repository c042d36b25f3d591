"""Whether the parts of a model folder fit one another, found out one by one."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.backend.handlers import HandlerModel
from app.backend.registrations import Registration
from app.errors import DimpleError, InvalidArchive, ModelFormatError, NoWorker
from app.formats.archive.contents import Handler, find_handler, own_handler, refuse_torchserve
from app.formats.archive.manifest import Manifest, read_manifest
from app.formats.folder import Checkpoint, ModelFolder, open_model_folder
from app.formats.graph import read_graph
from app.formats.infer_signature import infer_folder
from app.formats.params import read_params
from app.formats.signature import FILE_NAME, read_signature
from app.formats.symbol import free_inputs
from app.serving.model import open_model
from app.settings import Settings


@dataclass(frozen=True)
class Check:
    """One check, and what came of it."""

    state: Literal["ok", "failed", "skipped"]
    name: str
    detail: str


def checks(folder: Path, settings: Settings, run: bool = True) -> Iterator[Check]:
    """Check a model folder as the server opens it; what depends on a failed check is left out.

    :param settings: which engine is to compute, and where it keeps what it converts.
    :param run: whether a model's own code may be run.
    """
    manifest = _manifest(folder)
    if isinstance(manifest, Check):
        yield manifest
        return
    yield Check("ok", "manifest", "none" if manifest.document is None else f"names {manifest.model_name or 'no model'}")
    handler = find_handler(folder, manifest)
    if handler is not None and not handler.is_stock:
        yield from _own_code_checks(folder, manifest, handler, settings, run)
    else:
        yield Check("ok", "handler", "none is needed")
        yield from _stock_checks(folder, settings)


def _manifest(folder: Path) -> Manifest | Check:
    try:
        return read_manifest(folder)
    except InvalidArchive as error:
        return Check("failed", "manifest", str(error))


def _own_code_checks(
    folder: Path, manifest: Manifest, handler: Handler, settings: Settings, run: bool
) -> Iterator[Check]:
    def check_handler() -> str:
        refuse_torchserve(folder, manifest, handler)
        return _handler(handler)

    checked = _check("handler", check_handler)
    yield checked
    if (folder / FILE_NAME).is_file():
        yield _check("signature", lambda: _signature(folder))
    if checked.state != "ok":
        return
    if run:
        yield _check("worker", lambda: _worker(folder, settings))
    else:
        yield Check("skipped", "worker", "the model's own code would have to run")
    yield Check("skipped", "prediction", "what its requests hold is known to the model's own code alone")


def _signature(folder: Path) -> str:
    return f"inputs {', '.join(tensor.name for tensor in read_signature(folder / FILE_NAME).inputs)}"


def _worker(folder: Path, settings: Settings) -> str:
    """Start a worker as the server would, and end it."""
    registration = Registration(folder.name, str(folder), str(folder), min_workers=1, max_workers=1)
    handler = own_handler(folder, default=settings.default_service_handler)
    assert handler is not None, "it was found to have code"
    handlers = HandlerModel(registration, handler, settings)
    try:
        handlers.start(registration)
    finally:
        handlers.close(NoWorker(folder.name), 0)
    return "it has started and loaded the model"


def _handler(handler: Handler) -> str:
    if handler.file is None:
        raise ModelFormatError(f"there is no {handler.module.replace('.', '/')}.py")
    if handler.file.suffix != ".py":
        return f"own code, compiled, in {handler.file.name}"
    try:
        tree = ast.parse(handler.file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise ModelFormatError(f"{handler.file.name} is not Python 3: {error}") from None
    wanted = handler.function or "handle"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if not {wanted, "*"} & set(_names(tree)) and not classes:
        raise ModelFormatError(f"{handler.file.name} has neither a function {wanted} nor a class")
    return f"own code in {handler.file.name}"


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines or imports without a condition."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _stock_checks(folder: Path, settings: Settings) -> Iterator[Check]:
    try:
        model = open_model_folder(folder)
    except ModelFormatError as error:
        yield Check("failed", "files", str(error))
        return
    yield Check("ok", "files", ", ".join(_weights(model)))
    found = [_check(name, check) for name, check in _fits(model)]
    yield from found
    if all(check.state == "ok" for check in found):
        yield _check("prediction", lambda: _prediction(model, settings))


def _weights(model: ModelFolder) -> Iterator[str]:
    if model.checkpoint is not None:
        yield from (model.checkpoint.symbol.name, model.checkpoint.params.name)
    if model.h5 is not None:
        yield model.h5.name
    if model.onnx is not None:
        yield model.onnx.name


def _fits(model: ModelFolder) -> Iterator[tuple[str, Callable[[], str]]]:
    checkpoint = model.checkpoint
    if checkpoint is not None:
        yield "symbol and parameters", lambda: _checkpoint(model, checkpoint)
    if model.labels is not None:
        yield "labels", lambda: _labels(model)


def _checkpoint(model: ModelFolder, checkpoint: Checkpoint) -> str:
    """Every array of the graph is either learned or an input of the signature."""
    learned = {name.removeprefix("arg:").removeprefix("aux:") for name in read_params(checkpoint.params)}
    free = free_inputs(read_graph(checkpoint.symbol), learned)
    inputs = infer_folder(model).signature.inputs
    named = [tensor.name for tensor in inputs]
    if set(free) != set(named):
        raise ModelFormatError(
            f"{checkpoint.symbol.name} needs {', '.join(free) or 'nothing'} beside {checkpoint.params.name}; "
            f"{FILE_NAME} gives {', '.join(named) or 'nothing'}"
        )
    return f"{len(learned):,} arrays, input {', '.join(named)}"


def _labels(model: ModelFolder) -> str:
    count = len(model.labels or ())
    classes = model.signature.outputs[0].shape[-1] if model.signature is not None and model.signature.outputs else 0
    two_of_one = classes == 1 and count == 2  # one sigmoid stands for two classes
    if classes and count != classes and not two_of_one:
        raise ModelFormatError(f"the model has {count:,} labels, {FILE_NAME} says that there are {classes:,} classes")
    return f"{count:,}"


def _prediction(model: ModelFolder, settings: Settings) -> str:
    opened = open_model(model, settings.engine, cache_dir=settings.cache)
    opened.engine.close()
    answered = f"two pictures were answered twice by {opened.kind}, {len(opened.labels):,} classes"
    return "; ".join([answered, *(f"warning: {warning}" for warning in opened.warnings)])


def _check(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check("ok", name, check())
    except DimpleError as error:
        return Check("failed", name, str(error))
