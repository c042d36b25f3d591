"""Loading of registrations as models, with the reason for each failure."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.backend.batching import QueueConfig
from app.backend.client import Backend
from app.backend.registrations import Registration, read_registrations
from app.backend.sources import find_startup_models, merge_startup_models
from app.engines.base import Engine
from app.engines.ray.engine import RayEngine, open_on_cluster
from app.engines.ray.serve_config import ongoing, options_of
from app.errors import ClusterUnavailable, EngineUnavailable, ModelFormatError
from app.formats.archive.manifest import own_handler
from app.formats.folder import open_model_folder
from app.serving.custom_model import CustomModel, open_custom
from app.serving.model import Model, open_model
from app.settings import Settings
from app.telemetry import metrics
from app.utils.system import cpu_count
from app.vision.preprocess import draft_side

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model by name: loaded, or the reason why it is not.

    :param passing: whether the reason may be temporary.
    """

    name: str
    model: Model | CustomModel | None
    registration: Registration
    failure: str = ""
    passing: bool = False
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def at_startup(self) -> bool:
        """Return whether the model is loaded because it is in the settings or the models folder."""
        return self.registration.at_startup

    @property
    def problem(self) -> str:
        """Return the reason why the model cannot answer; empty if it can, or has 0 workers by configuration."""
        return self.model.failure() if isinstance(self.model, CustomModel) else self.failure


def open_entry(registration: Registration, settings: Settings, backend: Backend, before: Entry | None = None) -> Entry:
    """Load a model, or record the reason why it cannot be loaded.

    :param before: the previous entry of that name; an unchanged reason is not logged again.
    """
    started = time.perf_counter()
    if registration.failure:
        log.error("the model %s is not served: %s", registration.url, registration.failure)
        return Entry(registration.name, None, registration, registration.failure)
    try:
        model = load(registration, settings, backend)
    except ModelFormatError as error:
        log.error("model %s is not served: %s", registration.name, error)
        return Entry(registration.name, None, registration, str(error))
    except (ClusterUnavailable, EngineUnavailable) as error:
        reason = error.reason if isinstance(error, ClusterUnavailable) else str(error)
        if before is None or before.failure != reason:  # retried every second
            log.error("model %s is not served yet: %s", registration.name, error)
        return Entry(registration.name, None, registration, reason, passing=True)
    except Exception as error:  # changed files or exhausted memory must not affect other models
        log.exception("model %s is not served", registration.name)
        return Entry(registration.name, None, registration, f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - started
    metrics.loaded(model.name, seconds)
    log.info("model %s %s loaded by %s in %.2f s", model.name, model.version, model.kind, seconds)
    return Entry(registration.name, model, registration)


def load(registration: Registration, settings: Settings, backend: Backend) -> Model | CustomModel:
    """Load a registered model: in our engines, or as a client of its own code.

    :raises ModelFormatError: if it cannot be loaded.
    :raises ClusterUnavailable: if it is computed on a cluster that is unavailable.
    """
    path = Path(registration.path)
    if own_handler(path, registration.handler, settings.default_service_handler):
        return open_custom(registration, backend)
    config = QueueConfig(
        concurrency=cpu_count(),
        batch_size=max(1, registration.batch_size),
        max_delay=max(0, registration.max_batch_delay) / 1000,
        timeout=registration.response_timeout,
    )
    folder, opened = replace(open_model_folder(path), name=registration.name), None
    if on_cluster(registration.name, settings):
        opened = open_on_cluster(path, registration.name, registration.response_timeout, settings)
        # the cluster makes batches
        config = replace(config, concurrency=_on_cluster_at_once(registration), batch_size=1, max_delay=0.0)
    model = open_model(folder, settings.engine, config, settings.cache, opened, backend.load_network)
    if settings.scaled_decoding:
        model = replace(model, draft_side=draft_side(model.preprocess, model.input.shape))
    return model.with_generation(registration.generation)


def on_cluster(name: str, settings: Settings, even_without_cluster: bool = False) -> bool:
    """Return whether a model is computed on the cluster.

    :param even_without_cluster: whether to answer as if the server had a cluster, which it may not yet have.
    """
    names = settings.cluster_models.strip()
    if not (settings.cluster or settings.engine == "ray" or even_without_cluster) or names.upper() == "NONE":
        return False
    return names.upper() == "ALL" or name in {part.strip() for part in names.split(",")}


def rescale(model: Model, registration: Registration) -> None:
    """Set how many requests are sent at once to a model's replicas on a cluster. Other models have none."""
    if isinstance(model.engine, RayEngine):
        model.resize(_on_cluster_at_once(registration))


def capacity(entry: Entry) -> int:
    """Return the number of requests of a model that the whole server can compute at the same time."""
    registration = entry.registration
    if isinstance(entry.model, CustomModel):
        return registration.min_workers * max(1, registration.batch_size)
    if entry.model is not None and cluster_error(entry.model.engine) is not None:
        return _on_cluster_at_once(registration)
    return cpu_count()


def cluster_error(engine: Engine) -> str | None:
    """Return the reason why an engine's cluster does not compute; empty if it does, None for a local engine."""
    return engine.unavailable_reason() if isinstance(engine, RayEngine) else None


def cluster_models(settings: Settings) -> list[tuple[str, Path, dict[str, Any]]]:
    """Return the models that this server would compute on a cluster: name, folder and options of the deployment.

    Models with their own code stay local.

    :raises StorageError: if the registrations cannot be read.
    """
    known = read_registrations(settings.instance_dir)
    every = merge_startup_models(known, find_startup_models(settings, known.models)).models.values()
    return [
        (item.name, Path(item.path), _deployment_options(item, settings))
        for item in sorted(every, key=lambda item: item.name)
        if not item.removed
        and not item.failure
        and on_cluster(item.name, settings, even_without_cluster=True)
        and not _has_code(item, settings)
    ]


def _deployment_options(registration: Registration, settings: Settings) -> dict[str, Any]:
    return options_of(
        registration.min_workers,
        registration.max_workers,
        registration.batch_size,
        registration.max_batch_delay,
        settings.job_queue_size,
    )


def _has_code(registration: Registration, settings: Settings) -> bool:
    try:
        return own_handler(Path(registration.path), registration.handler, settings.default_service_handler) is not None
    except ModelFormatError:
        return True  # loading it reports the error


def _on_cluster_at_once(registration: Registration) -> int:
    """Return the number of requests that the replicas may compute at once, if this process is their only client."""
    return ongoing(registration.batch_size) * max(1, registration.max_workers)
