"""A counterpart of MMS 0.x's ``mxnet-model-export``: a folder's files, service and manifest packed as
``NAME.model``."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import PackError
from app.formats.archive.manifest import LEGACY, stock_service
from app.formats.archive.pack import add_file, add_text, atomic_output, check_name
from app.utils.json import read_json

ARCHIVE_VERSION, SERVER_VERSION = 0.2, 0.4
SIGNATURE = "signature.json"
TYPES = ("image/jpeg", "application/json")
LEFT_OUT_SUFFIXES = (".pyc", ".DS_Store", ".mar", ".model")

NO_SERVICE_CLASS = "The Service class should be derived from MXNetBaseService"


@dataclass(frozen=True)
class Parts:
    """Names of the files that the manifest of MMS 0.x refers to."""

    symbol: str
    parameters: str
    service: str


def export(model_name: str, model_path: Path, service: Path | None = None, export_path: Path = Path()) -> Path:
    """Pack the files of a folder, without its subfolders, into ``NAME.model``.

    :param service: a file with a class derived from MMS's; None for MMS's own service for the signature's input type.
    :raises PackError: if the archive exists already, or the folder lacks a part.
    """
    check_name(model_name)
    target = export_path / f"{model_name}.model"
    if target.exists():
        raise PackError(f"model file {target} already exists.")
    files = _files(model_path)
    symbol, parameters = _checkpoint(model_path, files)
    name, text, source = _service(model_path, service, _input_type(model_path / SIGNATURE))
    manifest = _manifest(model_name, Parts(symbol, parameters, name), _engine_version(model_path / symbol))
    with atomic_output(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for file in sorted({*files, name}):
            if file != name:
                add_file(archive, file, model_path / file)
            elif source is not None:
                add_file(archive, file, source)
            else:
                add_text(archive, file, text)
        add_text(archive, LEGACY, json.dumps(manifest, indent=4))
    return target


def _files(folder: Path) -> list[str]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise PackError(f"{folder} cannot be read: {error.strerror}. Give the folder with the model's files") from None
    names = [path.name for path in inside if path.is_file()]
    return [name for name in names if name.upper() != LEGACY.upper() and not name.endswith(LEFT_OUT_SUFFIXES)]


def _checkpoint(folder: Path, files: list[str]) -> tuple[str, str]:
    symbol, parameters = _unique(files, "-symbol.json"), _unique(files, ".params")
    if _unique(files, ".onnx"):
        if symbol or parameters:
            raise PackError(f"More than one model type is present in the model directory {folder}.")
        raise PackError(
            f"{folder} holds an ONNX model, which archives of 0.x cannot. Pack it with model-archiver --convert"
        )
    if symbol is None and parameters is None:
        raise PackError(f"No model files found in the model directory {folder}: NAME-symbol.json and NAME-0000.params")
    if symbol is None or parameters is None:
        raise PackError(
            f"Incomplete MXNet model found in the model directory {folder}: "
            "both NAME-symbol.json and NAME-0000.params are needed"
        )
    if not re.fullmatch(r"[\w\-.]+-\d+\.params", parameters):
        raise PackError(f"No epoch number found in the parameter filename {parameters}: call it NAME-0000.params")
    if symbol.removesuffix("-symbol.json") != re.sub(r"-\d+\.params$", "", parameters):
        raise PackError(
            f"Your parameters file and symbols file naming prefix do not match: {parameters} and {symbol}. "
            "Call them NAME-symbol.json and NAME-0000.params, with one NAME"
        )
    return symbol, parameters


def _unique(files: list[str], suffix: str) -> str | None:
    names = [name for name in files if name.endswith(suffix)]
    if len(names) > 1:
        raise PackError(f"mxnet-model-export expects only one {suffix} file; there are {', '.join(names)}")
    return names[0] if names else None


def _input_type(path: Path) -> str:
    """Return the signature's input type, after the exporter's checks, which are stricter than a server's."""
    if not path.is_file():
        raise PackError(f"signature.json is not found in {path.parent}.")
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict) or not {"input_type", "output_type"} <= document.keys():
        raise PackError("input_type and output_type are required in signature.")
    types = document["input_type"], document["output_type"]
    if not all(kind in TYPES for kind in types):
        raise PackError(
            f"Valid type should be picked from {list(TYPES)}. Got {types[0]} for input and {types[1]} for output"
        )
    if not all(_are_tensors(document.get(key)) for key in ("inputs", "outputs")):
        raise PackError("inputs and outputs are required in signature: lists of {data_name, data_shape}.")
    return str(types[0])


def _are_tensors(listed: Any) -> bool:
    return isinstance(listed, list) and all(
        isinstance(item, dict) and isinstance(item.get("data_name"), str) and isinstance(item.get("data_shape"), list)
        for item in listed
    )


def _service(folder: Path, service: Path | None, input_type: str) -> tuple[str, str, Path | None]:
    """Return the service's name in the archive, its text, and its source file (None for MMS's own service)."""
    if service is None:
        name, text = stock_service(input_type)
        return name, text, folder / name if (folder / name).is_file() else None
    source = service if service.is_file() else folder / service
    if not source.is_file():
        raise PackError(f"Service File not found in {service} or in {folder}.")
    try:
        text = source.read_text(encoding="utf-8")
        classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise PackError(f"{source} cannot be read as Python 3: {error}") from None
    if not any(node.bases for node in classes):
        raise PackError(f"{NO_SERVICE_CLASS}, found {[node.name for node in classes]} classes in {source}")
    return source.name, text, source


def _engine_version(symbol: Path) -> Any:
    """Return the version of MXNet that wrote the symbol, in its own form (``["int", 10901]``), else the installed
    one."""
    try:
        return read_json(symbol)["attrs"]["mxnet_version"]
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        return importlib.metadata.version("mxnet")
    except importlib.metadata.PackageNotFoundError:
        return None


def _manifest(model_name: str, parts: Parts, engine_version: Any) -> dict[str, Any]:
    return {
        "Model-Archive-Version": ARCHIVE_VERSION,
        "Model-Archive-Description": model_name,
        "Model-Server": SERVER_VERSION,
        "Model": {
            "Symbol": parts.symbol,
            "Parameters": parts.parameters,
            "Signature": SIGNATURE,
            "Service": parts.service,
            "Description": model_name,
            "Model-Name": model_name,
            "Model-Format": "MXNet-Symbolic",
        },
        "Engine": {"MXNet": engine_version},
    }
