"""What a model folder's manifest points at: the checkpoint that counts, and the handler."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.formats.archive.manifest import Manifest
from app.formats.archive.services import is_stock_vision

MAX_CHARACTERS = 2**20


@dataclass(frozen=True)
class Handler:
    """The Python that a model asks for.

    ``file`` is the folder's own; None where it has none. ``is_stock`` says that it does what MMS's vision service does
    and no more, so that no foreign code need run.
    """

    module: str
    function: str | None
    file: Path | None
    is_stock: bool


def find_handler(folder: Path, manifest: Manifest) -> Handler | None:
    """Find the handler that a manifest names, as MMS reads it: folders and ``.py`` do not count.

    :returns: None where the manifest names none.
    """
    if manifest.handler is None:
        return None
    named, _, function = manifest.handler.partition(":")
    module = PurePosixPath(named).name.removesuffix(".py")
    places = (folder / f"{module}.py", folder / PurePosixPath(named).parent / f"{module}.py")
    inside = [path for path in places if _is_file(path) and path.resolve().is_relative_to(folder.resolve())]
    file = inside[0] if inside else None
    return Handler(module, function or None, file, is_stock_vision(module, _text(file) if file else None))


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
