"""What a model folder's manifest points at: the checkpoint that counts, and the handler."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from importlib.machinery import all_suffixes
from pathlib import Path

from app.errors import InvalidArchive
from app.formats.archive.manifest import Manifest, read_manifest
from app.formats.archive.services import is_stock_vision, needs_torchserve
from app.settings import ROOT

MAX_CHARACTERS = 2**20


@dataclass(frozen=True)
class Handler:
    """The Python that a model asks for.

    ``module`` is its dotted name; of an archive of 0.x, the name of a file without ``.py``. ``file`` is the module's
    source, in the model's folder or elsewhere; None where there is none. ``is_stock`` says that it does what MMS's
    vision service does and no more, so that no foreign code need run.
    """

    module: str
    function: str | None
    file: Path | None
    is_stock: bool


def find_handler(folder: Path, manifest: Manifest) -> Handler | None:
    """Find the handler that a manifest names, in the places where a worker of MMS would import it from.

    Of MMS 1.x: the folder that stands before the module's name (relative to the model's folder, or absolute), the
    server's ``PYTHONPATH``, the model's folder, and the packages that the server's Python has. Of 0.x: the file itself.

    :returns: None where the manifest names none.
    """
    if manifest.handler is None:
        return None
    named, _, function = manifest.handler.partition(":")
    named = named.removesuffix(".py")
    module = named.rpartition("/")[2]
    files = [folder / f"{named}.py"] if manifest.is_legacy else (_module(one, module) for one in _places(folder, named))
    file = next((file for file in files if file is not None and _is_file(file)), None)
    return Handler(module, function or None, file, is_stock_vision(module, _text(file) if file else None))


def _places(folder: Path, named: str) -> list[Path]:
    """The folders of a worker's ``sys.path``. Dimple's own checkout, which has the package ``app``, is not on it."""
    inherited = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    installed = [Path(entry) for entry in sys.path if entry]
    # MMS puts a name without a folder on the path, too: the modules of the package svc find one another
    before = named.rpartition("/")[0] if "/" in named else named
    return [folder / before, *(entry for entry in (*inherited, folder, *installed) if entry != ROOT)]


def _module(place: Path, name: str) -> Path | None:
    """The file of a module or package in a folder, by its dotted name. Nothing is imported."""
    parts = name.split(".")
    if not all(parts):
        return None
    path = place.joinpath(*parts)
    files = (f"{base}{suffix}" for base in (path / "__init__", path) for suffix in all_suffixes())
    return next((Path(file) for file in files if _is_file(Path(file))), None)


def refuse_torchserve(folder: Path, manifest: Manifest, handler: Handler | None) -> None:
    """Refuse a model that only TorchServe can serve.

    :raises InvalidArchive: if it is one.
    """
    if handler is None or handler.is_stock:
        return
    if needs_torchserve(handler.module, _text(handler.file) if handler.file else None, manifest.document):
        raise InvalidArchive(
            f"{manifest.model_name or folder.name} is a TorchServe archive: its handler {manifest.handler} needs"
            " PyTorch and TorchServe's package ts. Write its network as ONNX with torch.onnx.export, and give the .onnx"
            " file to dimple models import"
        )


def _is_file(path: Path) -> bool:
    """Say whether a path that a manifest makes is a file; it may be too long to be one."""
    try:
        return path.is_file()
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS)
    except (OSError, ValueError):
        return ""


def named_checkpoint(folder: Path, manifest: Manifest) -> tuple[Path, Path] | None:
    """Find the symbol and the parameters that MMS would load; a folder may hold more than one of either.

    MMS 1.x's template takes ``NAME-symbol.json`` and epoch 0. MMS 0.x takes the symbol that the manifest names, and of
    the same prefix the epoch that stands in the parameters' name after the model's; 0 where none does.

    :returns: None where these files are not there, so that the folder must tell by itself.
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
    found = re.fullmatch(rf"{name}-(\d{{1,9}})\.params", manifest.parameters or "")
    return int(found[1]) if found else 0


def own_handler(folder: Path, named: str = "", default: str = "") -> str | None:
    """Return the handler of a model folder that has code of its own; None if our engines do all that it does.

    :param named: the handler that is asked for at registration, in place of the manifest's.
    :param default: that of a manifest that names none.
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
