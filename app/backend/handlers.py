"""A model with its own code in the backend process: its queue, and the worker processes that run the code."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.backend.batching import BatchQueue, IsDisconnected, QueueConfig, QueueResult
from app.backend.registrations import Registration
from app.errors import DimpleError, NoWorker
from app.formats.archive.manifest import read_manifest
from app.handlers.environment import prepare_environment
from app.handlers.pool import Workers
from app.handlers.types import HandlerAnswer, HandlerLimits, HandlerRequest, HandlerSpec, WorkerState, WorkerStatus
from app.handlers.worker import LOAD_SECONDS, usable_gpus
from app.settings import Settings
from app.telemetry.metrics import handler_restarted

log = logging.getLogger(__name__)
metrics = logging.getLogger("dimple.metrics")


class HandlerModel:
    """A model's queue and workers. :meth:`start` or :meth:`scale` starts the workers.

    :param handler: as :func:`app.formats.archive.manifest.own_handler` returns it.
    :raises RequirementsError: if the packages that it requires cannot be installed.
    :raises ModelFormatError: if its home folder cannot be written.
    """

    def __init__(self, registration: Registration, handler: str, settings: Settings) -> None:
        name = registration.name
        self.workers = Workers(
            _spec(registration, handler, settings), metrics.info, on_restart=partial(handler_restarted, name)
        )
        self._name = name
        self._queue: BatchQueue[HandlerRequest, HandlerAnswer] = BatchQueue(
            name,
            self.workers.predict,
            QueueConfig(
                concurrency=registration.min_workers,
                batch_size=max(1, registration.batch_size),
                max_delay=max(0, registration.max_batch_delay) / 1000,
                timeout=registration.response_timeout,
            ),
        )

    def submit(self, request: HandlerRequest, is_disconnected: IsDisconnected) -> QueueResult[HandlerAnswer]:
        """Answer a request in its turn. A failure of the code is an answer, too.

        :raises DimpleError: as :meth:`app.backend.batching.BatchQueue.submit`.
        """
        return self._queue.submit(request, is_disconnected)

    def start(self, registration: Registration) -> None:
        """Start the workers, and wait until they have loaded the model.

        :raises HandlerLoadError: if they cannot load it; they keep retrying.
        """
        self.scale(registration)
        self.wait_until_loaded(registration.min_workers, LOAD_SECONDS)

    def wait_until_loaded(self, count: int, seconds: float) -> None:
        """Wait until a number of workers have loaded the model.

        :raises HandlerLoadError: if they cannot load it, or not in time; they keep retrying.
        """
        self.workers.wait_until_loaded(count, seconds)

    def scale(self, registration: Registration) -> None:
        """Set the number of workers to the registration's. Workers start and finish their batches in the background. If
        the number is 0, waiting requests are refused."""
        self.workers.scale(registration.min_workers, registration.max_workers)
        self._queue.resize(registration.min_workers)
        if registration.min_workers:
            self._queue.open()
        else:
            self._queue.refuse(NoWorker(self._name))

    def close(self, refusal: DimpleError, seconds: float, drain: bool = False) -> bool:
        """Refuse new requests, let requests under computation finish, and end the workers; kill them after a timeout.

        :param refusal: raised for new and waiting requests.
        :param seconds: the timeout.
        :param drain: whether waiting requests are computed first.
        :returns: whether no worker had to be killed.
        """
        ending = time.monotonic() + seconds
        if drain:
            self._queue.wait_until_idle(seconds)
        self._queue.refuse(refusal)
        self._queue.wait_until_idle(ending - time.monotonic())
        return self.workers.close(max(0.0, ending - time.monotonic()))

    def status(self) -> dict[str, Any]:
        """Return the status of the workers, and the reason why none can load the model, as JSON types."""
        statuses = self.workers.statuses()
        workers = [asdict(status) | {"started": status.started and status.started.isoformat()} for status in statuses]
        return {"workers": workers, "failure": self.workers.failure()}


def statuses_from(document: Sequence[dict[str, Any]]) -> list[WorkerStatus]:
    """Return the workers' status from the document of :meth:`HandlerModel.status`."""
    return [
        WorkerStatus(
            **{
                **item,
                "started": datetime.fromisoformat(item["started"]) if item["started"] else None,
                "state": WorkerState(item["state"]),
            }
        )
        for item in document
    ]


def _spec(registration: Registration, handler: str, settings: Settings) -> HandlerSpec:
    folder = Path(registration.path)
    manifest = read_manifest(folder)
    if registration.runtime == "python2":
        log.warning("%s asks for Python 2; its code runs under Python %s", registration.name, platform.python_version())
    environment = prepare_environment(registration.name, folder, settings)
    return HandlerSpec(
        model_name=registration.name,
        model_dir=folder,
        handler=handler,
        manifest=manifest.document,
        batch_size=registration.batch_size,
        response_timeout=registration.response_timeout,
        decode_input_request=settings.decode_input_request,
        number_of_gpu=usable_gpus(settings.number_of_gpu),
        passed_variables=settings.handler_env,
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
        python=environment.python,
        home=environment.home,
    )
