"""A model's manifest, as either generation of Multi Model Server (MMS) writes it, and the files that it names.

MMS 1.x stores it in ``MAR-INF/MANIFEST.json``; 0.x in ``MANIFEST.json``, in any letter case, beside the model's files
or one folder down. Both are read into one :class:`Manifest`. The error texts are MMS's own because its clients look for
them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any, Literal, cast, get_args

from app.errors import InvalidArchive
from app.settings import ROOT
from app.utils.json import parse_json

CLASSES = {
    "image/jpeg": ("mxnet_vision_service", "MXNetVisionService"),
    "application/json": ("mxnet_model_service", "MXNetBaseService"),
}
"""Modules of ``mms.model_service`` and their classes, by the signature's input type."""
VISION = CLASSES["image/jpeg"][0]
TORCHSERVE = ("image_classifier", "image_segmenter", "object_detector", "text_classifier")
"""TorchServe's built-in handlers."""


def stock_service(input_type: str) -> tuple[str, str]:
    """Return the file name and text of the service that ``mxnet-model-export`` adds to an archive without a service."""
    module, name = CLASSES[input_type]
    return f"{module}.py", (
        '"""Serves the model as MXNet Model Server does by itself."""\n\n'
        f"from mms.model_service.{module} import {name}\n\n\n"
        f"class Service({name}):\n"
        f'    """{name} as it is."""\n'
    )


def is_stock_vision(module: str, text: str | None) -> bool:
    """Return whether a handler does no more than MMS's own vision service, so that Dimple need not run it.

    :param text: the text of the handler's file; None if the model has no such file.
    """
    return text == stock_service("image/jpeg")[1] or (text is None and module == VISION)


def needs_torchserve(module: str, text: str | None, manifest: dict[str, Any] | None) -> bool:
    """Return whether a handler works only under TorchServe, whose archives look like MMS's (it took over the archiver).

    :param text: the text of the handler's file; None if the model has no such file.
    """
    if text is not None:
        return re.search(r"^\s*(from|import)\s+ts\b", text, re.MULTILINE) is not None
    model = (manifest or {}).get("model") or {}
    return module in TORCHSERVE or "serializedFile" in model or "modelFile" in model


Runtime = Literal["python", "python2", "python3"]

CURRENT = Path("MAR-INF") / "MANIFEST.json"
LEGACY = "MANIFEST.json"
MAX_BYTES = 16 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")
"""Valid names of a model: model-archiver's own rule."""

NOT_JSON = "Failed to parse signature.json."  # MMS names the wrong file
NO_MODEL = "Missing Model entry in manifest file."
NO_NAME = "Model name is not defined."
NO_HANDLER = "Model handler is not defined."
NO_RUNTIME = "Runtime is not defined or invalid."
NO_ENGINE = "engineName is required in <engine>."
NO_SERVICE = "Missing Service entry in MANIFEST.json"


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest; fields that it lacks are None.

    ``handler`` is ``module:function`` (1.x) or a file's name (0.x). ``specification`` is 0.1 for a manifest of 0.x.
    ``symbol`` and ``parameters`` are names of files, which only 0.x has. ``document`` is the file's JSON object, which
    a handler finds in its context; None if there is no file.
    """

    model_name: str | None = None
    handler: str | None = None
    runtime: Runtime = "python"
    model_version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    specification: str = "1.0"
    symbol: str | None = None
    parameters: str | None = None
    document: dict[str, Any] | None = None

    @property
    def is_legacy(self) -> bool:
        """Return whether MMS 0.x wrote the manifest."""
        return self.specification == "0.1"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a model folder; return an empty one if the folder has none.

    :raises InvalidArchive: with MMS's own message, if the manifest is unusable in any case.
    """
    if (folder / CURRENT).is_file():
        return _current(_load(folder / CURRENT))
    try:
        path = find_legacy_manifest(folder)
    except OSError as error:
        raise InvalidArchive(f"{folder} cannot be read: {error.strerror}") from None
    return Manifest() if path is None else _legacy(_load(path))


def find_legacy_manifest(folder: Path) -> Path | None:
    """Return the manifest of MMS 0.x, in any letter case, from the folder or one folder down; None if there is none."""
    inside = sorted(folder.iterdir())
    for place in (folder, *(path for path in inside if path.is_dir() and path.name != CURRENT.parent.name)):
        named = [path for path in place.iterdir() if path.name.lower() == LEGACY.lower() and path.is_file()]
        if named:
            return min(named, key=lambda path: (path.name != LEGACY, path.name))
    return None


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        document = parse_json(content) if len(content) <= MAX_BYTES else None
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict):
        raise InvalidArchive(NOT_JSON)
    return document


def _current(document: dict[str, Any]) -> Manifest:
    model, engine = _object(document, "model"), _object(document, "engine")
    if model is None:  # MMS distinguishes a null entry from a missing one
        raise InvalidArchive(NO_MODEL if "model" in document else NO_NAME)
    runtime = document.get("runtime", "python")
    if runtime not in get_args(Runtime):
        raise InvalidArchive(NO_RUNTIME)
    engine_name = None if engine is None else _text(engine, "engineName")
    if engine is not None and engine_name is None:
        raise InvalidArchive(NO_ENGINE)
    return Manifest(
        model_name=_text(model, "modelName"),
        handler=_text(model, "handler"),
        runtime=cast(Runtime, runtime),
        model_version=_text(model, "modelVersion"),
        engine=engine_name,
        engine_version=None if engine is None else _text(engine, "engineVersion"),
        specification=_text(document, "specificationVersion") or "1.0",
        document=document,
    )


def _legacy(document: dict[str, Any]) -> Manifest:
    model, engine = _object(document, "Model"), _object(document, "Engine") or {}
    if model is None:
        raise InvalidArchive(NO_MODEL)
    service = _text(model, "Service")
    if service is None:
        raise InvalidArchive(NO_SERVICE)
    version = engine.get("MXNet")  # the exporter wrote a number, a text, or the symbol's own form: ["int", 10901]
    known = isinstance(version, int | float) and type(version) is not bool
    return Manifest(
        model_name=_text(model, "Model-Name"),
        handler=service,
        model_version="snapshot",
        engine="MXNet" if known else None,
        engine_version=(str(version) if isinstance(version, float) else f"{version}.0") if known else None,
        specification="0.1",
        symbol=_text(model, "Symbol"),
        parameters=_text(model, "Parameters"),
        document=document,
    )


def _object(document: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidArchive(NOT_JSON)
    return value


def _text(document: dict[str, Any], key: str) -> str | None:
    """Return a text, or a number as the text that MMS reads; None if it is missing or empty."""
    value = document.get(key)
    if isinstance(value, str):
        return value or None
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InvalidArchive(NOT_JSON)


MAX_CHARACTERS = 2**20


@dataclass(frozen=True)
class Handler:
    """The Python handler of a model.

    ``module`` is its dotted name; for an archive of 0.x, a file's name without ``.py``. ``file`` is the module's
    source, in the model's folder or elsewhere; None if it was not found. ``is_stock`` is true if the handler does no
    more than MMS's vision service, so that no foreign code need run.
    """

    module: str
    function: str | None
    file: Path | None
    is_stock: bool


def find_handler(folder: Path, manifest: Manifest) -> Handler | None:
    """Find the handler that a manifest names, in the places from which a worker of MMS would import it.

    For MMS 1.x these are the folder in front of the module's name (relative to the model's folder, or absolute), the
    server's ``PYTHONPATH``, the model's folder, and the packages of the server's Python. For 0.x it is the file itself.

    :returns: the handler; None if the manifest names none.
    """
    if manifest.handler is None:
        return None
    named, _, function = manifest.handler.partition(":")
    named = named.removesuffix(".py")
    module = named.rpartition("/")[2]
    files = (
        [folder / f"{named}.py"]
        if manifest.is_legacy
        else (_module(item, module) for item in _search_path(folder, named))
    )
    file = next((file for file in files if file is not None and _is_file(file)), None)
    return Handler(module, function or None, file, is_stock_vision(module, _read_text(file) if file else None))


def _search_path(folder: Path, named: str) -> list[Path]:
    """Return the folders of a worker's ``sys.path``, without Dimple's own checkout, which has the package ``app``."""
    inherited = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    installed = [Path(entry) for entry in sys.path if entry]
    # MMS also puts a name without a folder on the path: the modules of the package svc import one another
    before = named.rpartition("/")[0] if "/" in named else named
    return [folder / before, *(entry for entry in (*inherited, folder, *installed) if entry != ROOT)]


def _module(place: Path, name: str) -> Path | None:
    """Return the file of a module or package in a folder, by its dotted name; None if there is none. Nothing is
    imported."""
    parts = name.split(".")
    if not all(parts):
        return None
    path = place.joinpath(*parts)
    files = (f"{base}{suffix}" for base in (path / "__init__", path) for suffix in all_suffixes())
    return next((Path(file) for file in files if _is_file(Path(file))), None)


def refuse_torchserve(folder: Path, manifest: Manifest, handler: Handler | None) -> None:
    """Refuse a model that only TorchServe can serve.

    :raises InvalidArchive: if the model needs TorchServe.
    """
    if handler is None or handler.is_stock:
        return
    if needs_torchserve(handler.module, _read_text(handler.file) if handler.file else None, manifest.document):
        raise InvalidArchive(
            f"{manifest.model_name or folder.name} is a TorchServe archive: its handler {manifest.handler} needs"
            " PyTorch and TorchServe's package ts. Write its network as ONNX with torch.onnx.export, and give the .onnx"
            " file to dimple models import"
        )


def _is_file(path: Path) -> bool:
    """Return whether a path from a manifest is a file; an overlong path is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS)
    except (OSError, ValueError):
        return ""


def named_checkpoint(folder: Path, manifest: Manifest) -> tuple[Path, Path] | None:
    """Return the symbol and the parameters that MMS would load; a folder may hold several of either.

    MMS 1.x's template loads ``NAME-symbol.json`` and epoch 0. MMS 0.x loads the symbol that the manifest names, and the
    parameters of the same prefix whose epoch follows the model's name in the parameters' name, or else epoch 0.

    :returns: None if these files do not exist, so that the choice must follow from the folder's files.
    """
    if manifest.is_legacy:
        prefix, epoch = (manifest.symbol or "").removesuffix("-symbol.json"), _epoch(manifest)
    else:
        prefix, epoch = manifest.model_name or "", 0
    if not prefix or "/" in prefix or "\\" in prefix:
        return None
    symbol, params = folder / f"{prefix}-symbol.json", folder / f"{prefix}-{epoch:04d}.params"
    return (symbol, params) if _is_file(symbol) and _is_file(params) else None


def _epoch(manifest: Manifest) -> int:
    name = re.escape(manifest.model_name or "")
    match = re.fullmatch(rf"{name}-(\d{{1,9}})\.params", manifest.parameters or "")
    return int(match[1]) if match else 0


def own_handler(folder: Path, named: str = "", default: str = "") -> str | None:
    """Return the handler of a model folder that has its own code; None if our engines do everything that it does.

    :param named: the handler that the registration requests instead of the manifest's.
    :param default: the handler for a manifest that names none.
    :raises ModelFormatError: if the folder cannot be read, or its handler is missing.
    """
    manifest = read_manifest(folder)
    manifest = replace(manifest, handler=named or manifest.handler or default or None)
    handler = find_handler(folder, manifest)
    refuse_torchserve(folder, manifest, handler)
    if handler is None or handler.is_stock:
        return None
    if handler.file is None:
        raise InvalidArchive(
            f"{folder} has no {handler.module.replace('.', '/')}.py, which is to be its handler, and no such module is "
            f"installed or on the server's PYTHONPATH"
        )
    return manifest.handler
