"""A model's manifest, as either generation of Multi Model Server (MMS) writes it.

MMS 1.x keeps it in ``MAR-INF/MANIFEST.json``; 0.x in ``MANIFEST.json``, in any letter case, beside the model's files or
one folder down. Both become one :class:`Manifest`. The texts of the errors are MMS's own: its clients look for them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from app.errors import InvalidArchive
from app.utils.json import parse_json

Runtime = Literal["python", "python2", "python3"]

CURRENT = Path("MAR-INF") / "MANIFEST.json"
LEGACY = "MANIFEST.json"
MAX_BYTES = 16 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")
"""Names that a model may have: model-archiver's own rule."""

NOT_JSON = "Failed to parse signature.json."  # MMS names the wrong file
NO_MODEL = "Missing Model entry in manifest file."
NO_NAME = "Model name is not defined."
NO_HANDLER = "Model handler is not defined."
NO_RUNTIME = "Runtime is not defined or invalid."
NO_ENGINE = "engineName is required in <engine>."
NO_SERVICE = "Missing Service entry in MANIFEST.json"


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; None where it does not.

    ``handler`` is ``module:function`` (1.x) or a file's name (0.x). ``specification`` is 0.1 for a manifest of 0.x.
    ``symbol`` and ``parameters`` are names of files, which only 0.x gives. ``document`` is the file's own content, as a
    handler finds it in its context; None where there is no file.
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
        """Whether MMS 0.x wrote it."""
        return self.specification == "0.1"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a model folder. A folder without one gives an empty one.

    :raises InvalidArchive: with MMS's own message, where the manifest is not usable whatever else is known.
    """
    if (folder / CURRENT).is_file():
        return _current(_load(folder / CURRENT))
    try:
        path = find_legacy_manifest(folder)
    except OSError as error:
        raise InvalidArchive(f"{folder} cannot be read: {error.strerror}") from None
    return Manifest() if path is None else _legacy(_load(path))


def find_legacy_manifest(folder: Path) -> Path | None:
    """Find the manifest that MMS 0.x wrote: in the folder itself, else one folder down, in any letter case."""
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
    if model is None:  # MMS tells an entry that is null from one that is not there
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
    version = engine.get("MXNet")  # the exporter wrote a number, a text, or what the symbol has: ["int", 10901]
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
    found = document.get(key)
    if found is not None and not isinstance(found, dict):
        raise InvalidArchive(NOT_JSON)
    return found


def _text(document: dict[str, Any], key: str) -> str | None:
    """A text, or the text of a number as MMS reads it; None where it is missing or empty."""
    found = document.get(key)
    if isinstance(found, str):
        return found or None
    if found is None:
        return None
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    raise InvalidArchive(NOT_JSON)
