"""``flask models archive``, ``unpack``, ``inspect`` and ``verify``: Multi Model Server's archives."""

from __future__ import annotations

import ast
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
from flask.cli import with_appcontext

from app.backend.handlers import HandlerModel
from app.backend.registrations import Registration
from app.cli.common import current_settings, first_labels, report_errors
from app.cli.packers import archiver_options, pack_job, pack_model
from app.errors import DimpleError, InvalidArchive, ModelFormatError, NoWorker
from app.formats.archive.cache import open_archive, unpack_into
from app.formats.archive.manifest import Handler, Manifest, find_handler, own_handler, read_manifest, refuse_torchserve
from app.formats.archive.unpack import unpack
from app.formats.folder import Checkpoint, ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.inference import inferred_reasons
from app.formats.mxnet_describe import free_inputs
from app.formats.mxnet_graph import read_graph
from app.formats.mxnet_params import bare_name, read_params
from app.formats.signature import FILE_NAME, read_signature
from app.serving.model import open_model
from app.settings import Settings
from app.types import Signature, TensorSpec

Fact = tuple[str, list[str]]


def describe(folder: Path) -> Iterator[Fact]:
    """Describe a model folder: yield a name and one or more lines for each fact.

    :raises InvalidArchive: if its manifest is unusable.
    """
    manifest = read_manifest(folder)
    yield "model", [folder.name]
    yield from _manifest_facts(manifest)
    handler = find_handler(folder, manifest)
    has_code = handler is not None and not handler.is_stock
    yield "handler", [_describe_handler(handler, manifest)]
    model = _open_or_reason(folder)
    if isinstance(model, ModelFolder):
        if not has_code:  # a model's own code has its own way from a request to the network
            yield from _inferred_facts(model)
        if model.labels is not None:
            yield "labels", [f"{len(model.labels):,}: {first_labels(model.labels)}"]
    yield "files", [f"{size:>13,}  {name}" for name, size in _files(folder)]
    yield "served", [_serving_fact(folder, handler, model)]


def kind_of(folder: Path) -> str:
    """Return the kind of a model: MXNet, Keras or ONNX weights, or its own code.

    :raises ModelFormatError: if its files contradict each other.
    """
    handler = find_handler(folder, read_manifest(folder))
    if handler is not None and not handler.is_stock:
        return "own code"
    model = open_model_folder(folder)
    kinds = {"MXNet": model.checkpoint, "Keras": model.h5, "ONNX": model.onnx}
    return ", ".join(kind for kind, file in kinds.items() if file is not None)


def printable(text: str) -> str:
    """Return a text that is safe to print: control sequences from an archive could steer the terminal."""
    return "".join(item if item.isprintable() else item.encode("unicode_escape").decode() for item in text)


def print_fact(name: str, values: Sequence[str]) -> None:
    """Print the lines of a fact, the name in front of the first."""
    for index, value in enumerate(values):
        click.echo(f"{'' if index else name:<12}{printable(value)}".rstrip())


def _manifest_facts(manifest: Manifest) -> Iterator[Fact]:
    if manifest.document is None:
        yield "manifest", ["none"]
        return
    yield "manifest", [f"of Multi Model Server {'0.x' if manifest.is_legacy else '1.x'}"]
    yield "version", [manifest.model_version or "not stated"]
    runs = f" (its code runs under Python {platform.python_version()})" if manifest.runtime == "python2" else ""
    yield "runtime", [manifest.runtime + runs]
    if manifest.engine is not None:
        yield "engine", [f"{manifest.engine} {manifest.engine_version or ''}".rstrip()]


def _describe_handler(handler: Handler | None, manifest: Manifest) -> str:
    if handler is None:
        return "none"
    if handler.is_stock:
        return f"{manifest.handler} (Multi Model Server's own vision service)"
    where = "own code" if handler.file is not None else f"there is no {handler.module.replace('.', '/')}.py"
    return f"{manifest.handler} ({where})"


def _open_or_reason(folder: Path) -> ModelFolder | str:
    try:
        return open_model_folder(folder)
    except ModelFormatError as error:
        return str(error)


def _inferred_facts(model: ModelFolder) -> Iterator[Fact]:
    """Yield the signature as the server completes it, with the reason for each inferred part."""
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


def _files(folder: Path) -> list[tuple[str, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def _serving_fact(folder: Path, handler: Handler | None, model: ModelFolder | str) -> str:
    if handler is not None and not handler.is_stock:
        if handler.file is None:
            return f"not at all: it has no {handler.module.replace('.', '/')}.py, which its handler names"
        code = handler.file.relative_to(folder) if handler.file.is_relative_to(folder) else handler.file
        return f"by its own code in {code}, in processes of its own"
    if isinstance(model, str):
        return f"not at all: {model}"
    weights = model.checkpoint.params if model.checkpoint is not None else model.h5 or model.onnx
    return f"by Dimple itself, from {weights.name if weights else 'nothing'}"


@dataclass(frozen=True)
class Check:
    state: Literal["ok", "failed", "skipped"]
    name: str
    detail: str


def checks(folder: Path, settings: Settings, run: bool = True) -> Iterator[Check]:
    """Check a model folder as the server opens it; skip the checks that depend on a failed one.

    :param settings: settings with the engine and the cache folder of converted models.
    :param run: whether the model's own code may run.
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
        return _check_handler(handler)

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
    """Start a worker as the server does, and stop it."""
    registration = Registration(folder.name, str(folder), str(folder), min_workers=1, max_workers=1)
    handler = own_handler(folder, default=settings.default_service_handler)
    assert handler is not None, "it was found to have code"
    handlers = HandlerModel(registration, handler, settings)
    try:
        handlers.start(registration)
    finally:
        handlers.close(NoWorker(folder.name), 0)
    return "it has started and loaded the model"


def _check_handler(handler: Handler) -> str:
    if handler.file is None:
        raise ModelFormatError(f"there is no {handler.module.replace('.', '/')}.py")
    if handler.file.suffix != ".py":
        return f"own code, compiled, in {handler.file.name}"
    try:
        tree = ast.parse(handler.file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise ModelFormatError(f"{handler.file.name} is not Python 3: {error}") from None
    function = handler.function or "handle"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if not {function, "*"} & set(_names(tree)) and not classes:
        raise ModelFormatError(f"{handler.file.name} has neither a function {function} nor a class")
    return f"own code in {handler.file.name}"


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines or imports unconditionally."""
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
    checks = [_check(name, check) for name, check in _fits(model)]
    yield from checks
    if all(check.state == "ok" for check in checks):
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
        yield "labels", lambda: _check_labels(model)


def _checkpoint(model: ModelFolder, checkpoint: Checkpoint) -> str:
    """Check that every array of the graph is either learned or an input of the signature."""
    learned = {bare_name(name) for name in read_params(checkpoint.params)}
    free = free_inputs(read_graph(checkpoint.symbol), learned)
    inputs = infer_folder(model).signature.inputs
    named = [tensor.name for tensor in inputs]
    if set(free) != set(named):
        raise ModelFormatError(
            f"{checkpoint.symbol.name} needs {', '.join(free) or 'nothing'} beside {checkpoint.params.name}; "
            f"{FILE_NAME} gives {', '.join(named) or 'nothing'}"
        )
    return f"{len(learned):,} arrays, input {', '.join(named)}"


def _check_labels(model: ModelFolder) -> str:
    count = len(model.labels or ())
    classes = model.signature.outputs[0].shape[-1] if model.signature is not None and model.signature.outputs else 0
    two_of_one = classes == 1 and count == 2  # a single sigmoid output represents two classes
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


PATH = click.Path(exists=True, path_type=Path)


@click.command("archive")
@archiver_options
@report_errors
def archive(convert: bool, **options: Any) -> None:
    """Package a model folder as an MMS archive.

    The options are those of model-archiver, the tool of Multi Model Server.
    """
    click.echo(pack_model(pack_job(**options), convert))


@click.command("unpack")
@click.argument("path", metavar="ARCHIVE", type=PATH)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write.  [default: models/NAME]")
@with_appcontext
@report_errors
def unpack_command(path: Path, to: Path | None) -> None:
    """Unpack an MMS archive.

    ARCHIVE becomes a model folder. If that fails, no files are left behind.
    """
    if to is not None:
        click.echo(unpack(path, to))
        return
    models_dir = current_settings().models_dir
    models_dir.mkdir(parents=True, exist_ok=True)
    click.echo(unpack_into(path, models_dir))


@click.command("inspect")
@click.argument("path", metavar="ARCHIVE|FOLDER", type=PATH)
@report_errors
def inspect(path: Path) -> None:
    """Show the contents of an archive or folder.

    The output includes how Dimple would serve it. No code of the archive is run.
    """
    with _as_folder(path) as folder:
        for fact, values in describe(folder):
            print_fact(fact, [value.replace(str(folder), str(path)) for value in values])


@click.command("verify")
@click.argument("path", metavar="ARCHIVE|FOLDER", type=PATH)
@click.option("--run/--no-run", default=True, help="Start a worker if the model has its own code.  [default: run]")
@with_appcontext
@report_errors
def verify(path: Path, run: bool) -> None:
    """Check that an archive or folder can be served.

    It is opened as the server would open it, its parts are checked against each other, and the model predicts once.
    A model's own code is run as it is when a worker starts, with the same limits as in the server.
    """
    with _as_folder(path) as folder:
        failed = 0
        for check in checks(folder, current_settings(), run):
            detail = check.detail.replace(str(folder), str(path))  # not an archive's temporary folder
            click.echo(f"{check.state:<9}{check.name}: {printable(detail)}")
            failed += check.state == "failed"
    if failed:
        raise click.ClickException(f"{path}: {failed} of its checks failed")


@contextmanager
def _as_folder(path: Path) -> Iterator[Path]:
    """Yield the model folder; for an archive, a temporary folder with its contents."""
    if path.is_dir():
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dimple-") as place:
        yield open_archive(path, Path(place))
