"""A model by its name: what is loaded of it, or the reason why nothing is."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.errors import ClusterUnavailable, HandlerLoadError, ModelFormatError
from app.serving import measuring
from app.serving.handled import HandledModel
from app.serving.loading import load
from app.serving.model import Model
from app.serving.store import Registration
from app.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model by name: loaded, or the reason why not; ``passing`` says that this may pass by itself. ``at_startup``
    says that it lies in the models folder."""

    name: str
    model: Model | HandledModel | None
    registration: Registration
    failure: str = ""
    at_startup: bool = False
    passing: bool = False
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def problem(self) -> str:
        """Why the model cannot answer; empty if it can, or was given no worker."""
        if isinstance(self.model, HandledModel):
            return self.model.workers.failure()
        return self.failure

    def is_registered(self, registered: dict[str, Registration]) -> bool:
        """Whether the model is to be served, by the registrations of all: what lies in the models folder is where they
        say nothing of it."""
        known = registered.get(self.name)
        return not known.removed if known else self.at_startup


def open_entry(registration: Registration, settings: Settings, before: Entry | None = None) -> Entry:
    """Load a model, or note why it cannot be. Processes that cannot load theirs go on trying.

    :param before: what there was by its name: the same reason is not told again.
    """
    started = time.perf_counter()
    try:
        model = load(registration, settings)
        if isinstance(model, HandledModel):
            model.start(registration.min_workers)
    except HandlerLoadError as error:
        log.error("model %s does not answer yet: %s", registration.name, error)
    except ModelFormatError as error:
        log.error("model %s is not served: %s", registration.name, error)
        return Entry(registration.name, None, registration, str(error))
    except ClusterUnavailable as error:
        if before is None or before.failure != error.reason:  # it is tried every second
            log.error("model %s is not served yet: %s", registration.name, error)
        return Entry(registration.name, None, registration, error.reason, passing=True)
    except Exception as error:  # files that go or change while they are read, memory that runs out: spoil no other
        log.exception("model %s is not served", registration.name)
        return Entry(registration.name, None, registration, f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - started
    measuring.loaded(model.name, seconds)
    log.info("model %s %s loaded by %s in %.2f s", model.name, model.version, model.kind, seconds)
    return Entry(registration.name, model, registration)


def end(model: Model | HandledModel | None, settings: Settings) -> None:
    """End a model's processes once they have answered. What an engine holds goes with its last request."""
    if isinstance(model, HandledModel):
        seconds = float(settings.unregister_timeout)
        threading.Thread(target=model.close, args=(seconds,), daemon=True).start()
