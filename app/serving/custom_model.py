"""A model with its own Python code, run in the handler workers of the backend process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from app.backend.batching import IsDisconnected, never_disconnected
from app.backend.client import Backend
from app.backend.handlers import statuses_from
from app.backend.registrations import Registration
from app.formats.archive.manifest import read_manifest
from app.handlers.types import Field, HandlerAnswer, HandlerRequest, WorkerState, WorkerStatus
from app.telemetry import metrics

__all__ = ["CustomModel", "Field", "HandlerAnswer", "HandlerRequest", "open_custom"]

STARTING = "its processes are starting"


@dataclass(frozen=True)
class CustomModel:
    """A model whose archive contains its own code."""

    name: str
    version: str
    legacy: bool
    backend: Backend
    timeout: float
    generation: int = 0
    kind: str = "handler"
    is_remote: bool = True

    def answer(self, request: HandlerRequest, is_disconnected: IsDisconnected = never_disconnected) -> HandlerAnswer:
        """Answer one request. A failure of the code is an answer, too.

        :raises ModelNotFound: if the model has been unregistered meanwhile.
        :raises ModelUnavailable: as :meth:`app.backend.batching.BatchQueue.submit`.
        """
        done = self.backend.answer(self.name, self.generation, request, self.timeout, is_disconnected)
        metrics.turn(self.name, done.waited, done.computed)
        return done.result

    def workers(self) -> list[WorkerStatus]:
        return statuses_from(self.backend.status(self.generation)["workers"])

    def failure(self) -> str:
        """Return the reason why no worker can load the model; empty if one has loaded it, or the first attempt is under
        way."""
        return str(self.backend.status(self.generation)["failure"])

    def not_ready(self) -> str:
        """Return the reason why no worker answers; empty if one does."""
        status = self.backend.status(self.generation)
        workers = statuses_from(status["workers"])
        if any(worker.state is WorkerState.READY for worker in workers):
            return ""
        errors = [worker.last_error for worker in workers if worker.last_error]
        return next(iter([*errors, status["failure"] or STARTING]))

    def with_generation(self, generation: int) -> CustomModel:
        """Return the same model for another registration."""
        return replace(self, generation=generation)


def open_custom(registration: Registration, backend: Backend) -> CustomModel:
    """Create a model from an archive's code. The backend runs its workers."""
    manifest = read_manifest(Path(registration.path))
    return CustomModel(
        registration.name,
        manifest.model_version or "1.0",
        manifest.is_legacy,
        backend,
        registration.response_timeout,
        registration.generation,
    )
