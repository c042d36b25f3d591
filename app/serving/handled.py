"""A model that answers by its own Python, in processes of its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import HandlerLoadError, InvalidArchive
from app.formats.archive.contents import find_handler
from app.formats.archive.manifest import Manifest, read_manifest
from app.handlers.types import Field, HandlerAnswer, HandlerRequest, HandlerSpec
from app.handlers.workers import Workers
from app.serving.store import Registration

__all__ = ["Field", "HandledModel", "HandlerAnswer", "HandlerRequest", "open_handled", "own_handler"]

metrics = logging.getLogger("dimple.metrics")

LOAD_SECONDS = 120.0
"""What a model has to load. Multi Model Server waits as long for its workers."""


@dataclass(frozen=True)
class HandledModel:
    """A model whose archive brings its own code."""

    name: str
    version: str
    workers: Workers
    legacy: bool
    kind: str = "handler"

    def answer(self, request: HandlerRequest) -> HandlerAnswer:
        """Answer one request. A failure is an answer, too."""
        return self.workers.predict([request])[0]


def own_handler(folder: Path, named: str = "") -> str | None:
    """The handler of a model folder that has code of its own; None where our engines do all that it does.

    :param named: the handler that whoever registers the model asks for, in place of the manifest's.
    """
    manifest = _told(read_manifest(folder), named)
    handler = find_handler(folder, manifest)
    if handler is None or handler.is_stock:
        return None
    if handler.file is None:
        raise InvalidArchive(f"{folder} has no {handler.module}.py, which its manifest names as its handler")
    return manifest.handler


def open_handled(folder: Path, handler: str, registration: Registration) -> HandledModel:
    """Start the processes of a model.

    :raises HandlerLoadError: where they cannot load it; they are ended then.
    """
    manifest = read_manifest(folder)
    spec = HandlerSpec(
        model_name=registration.name,
        model_dir=folder,
        handler=handler,
        manifest=manifest.document,
        batch_size=registration.batch_size,
        response_timeout=registration.response_timeout,
        legacy=manifest.is_legacy,
    )
    workers = Workers(spec, metrics.info)
    try:
        workers.start(registration.min_workers, LOAD_SECONDS)
    except HandlerLoadError:
        workers.close(0)
        raise
    return HandledModel(registration.name, manifest.model_version or "1.0", workers, manifest.is_legacy)


def _told(manifest: Manifest, named: str) -> Manifest:
    return replace(manifest, handler=named) if named else manifest
