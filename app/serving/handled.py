"""A model that answers by its own Python, in processes of its own."""

from __future__ import annotations

import logging
import platform
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.dispatch import about_to_block
from app.errors import InvalidArchive
from app.formats.archive.contents import find_handler, refuse_torchserve
from app.formats.archive.manifest import read_manifest
from app.handlers.gpus import usable_gpus
from app.handlers.types import Field, HandlerAnswer, HandlerLimits, HandlerRequest, HandlerSpec
from app.handlers.workers import Workers
from app.serving.handler_room import furnish
from app.serving.line import Gone, Limits, Line, never
from app.serving.measuring import handler_restarted
from app.serving.store import Registration
from app.settings import Settings

__all__ = ["Field", "HandledModel", "HandlerAnswer", "HandlerRequest", "open_handled", "own_handler"]

log = logging.getLogger(__name__)
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
    line: Line[HandlerRequest, HandlerAnswer]
    kind: str = "handler"

    def answer(self, request: HandlerRequest, gone: Gone = never) -> HandlerAnswer:
        """Answer one request. A failure is an answer, too.

        :raises ModelUnavailable: where it waited too long; see :class:`app.serving.line.Line`.
        """
        about_to_block()
        return self.line.ask(request, gone).result

    def start(self, count: int) -> None:
        """Start so many processes, and wait until they have loaded the model.

        :raises HandlerLoadError: where they cannot; they go on trying.
        """
        self.workers.start(count, LOAD_SECONDS)

    def close(self, seconds: float) -> bool:
        """Let nobody in any more, answer who is inside, and end the processes; kill them after so many seconds.

        :returns: whether that was not necessary.
        """
        ending = time.monotonic() + seconds
        self.line.close(seconds)
        return self.workers.close(max(0.0, ending - time.monotonic()))

    def open(self, registration: Registration) -> None:
        """Start processes again, and let requests in."""
        self.workers.scale(registration.min_workers, registration.max_workers)
        self.line.open()


def own_handler(folder: Path, named: str = "", default: str = "") -> str | None:
    """The handler of a model folder that has code of its own; None where our engines do all that it does.

    :param named: the handler that whoever registers the model asks for, in place of the manifest's.
    :param default: the one of a manifest that names none.
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


def open_handled(
    folder: Path, handler: str, registration: Registration, limits: Limits, settings: Settings
) -> HandledModel:
    """Make a model of an archive's code. Its processes are started by :meth:`HandledModel.start`.

    :param limits: of the line before it, with a slot for each process.
    :raises RequirementsError: where the packages that it asks for cannot be installed.
    """
    manifest = read_manifest(folder)
    if registration.runtime == "python2":
        log.warning("%s asks for Python 2; its code runs under Python %s", registration.name, platform.python_version())
    room = furnish(registration.name, folder, settings)
    spec = HandlerSpec(
        model_name=registration.name,
        model_dir=folder,
        handler=handler,
        manifest=manifest.document,
        batch_size=registration.batch_size,
        response_timeout=registration.response_timeout,
        decode_input_request=settings.decode_input_request,
        number_of_gpu=usable_gpus(settings.number_of_gpu),
        shown_variables=settings.handler_env,
        hidden_variables=settings.blacklist_env_vars,
        legacy=manifest.is_legacy,
        max_response_bytes=settings.max_response_bytes,
        limits=HandlerLimits(
            memory_bytes=settings.handler_memory_bytes,
            cpu_seconds=settings.handler_cpu_seconds,
            open_files=settings.handler_open_files,
            file_bytes=settings.handler_file_bytes,
            nice=settings.handler_nice,
        ),
        python=room.python,
        home=room.home,
    )
    workers = Workers(spec, metrics.info, on_restart=partial(handler_restarted, registration.name))
    line = Line(registration.name, workers.predict, limits)
    return HandledModel(registration.name, manifest.model_version or "1.0", workers, manifest.is_legacy, line)
