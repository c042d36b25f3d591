"""From a registration to a model that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.cluster.installed import on_cluster
from app.cluster.plan import Scale
from app.engines.base import Engine, Opened
from app.formats.folder import open_model_folder
from app.machine import cores
from app.serving.clustered import scale_of
from app.serving.handled import HandledModel, open_handled, own_handler
from app.serving.line import Limits
from app.serving.model import Model, open_model
from app.serving.store import Registration
from app.settings import Settings
from app.vision.preprocess import enough_pixels


def load(registration: Registration, settings: Settings) -> Model | HandledModel:
    """Load a model as it was registered: into our engines, or for processes of its own where it brings code, which the
    caller starts.

    :raises ModelFormatError: where it cannot be loaded.
    :raises ClusterUnavailable: where it is computed on a cluster that is not there now.
    """
    path = Path(registration.path)
    limits = Limits(
        slots=cores(),
        waiting=settings.job_queue_size,
        batch=max(1, registration.batch_size),
        delay=max(0, registration.max_batch_delay) / 1000,
        seconds=registration.response_timeout,
    )
    if handler := own_handler(path, registration.handler, settings.default_service_handler):
        return open_handled(path, handler, registration, replace(limits, slots=registration.min_workers), settings)
    folder, opened = replace(open_model_folder(path), name=registration.name), None
    if on_cluster(registration.name, settings):
        opened = _open_on_cluster(path, registration, settings)
        limits = replace(limits, slots=_in_flight(registration), batch=1, delay=0.0)  # batches are made over there
    model = open_model(folder, settings.engine, limits, settings.cache, opened)
    if settings.scaled_decoding:
        return replace(model, enough_pixels=enough_pixels(model.preprocess, model.input.shape))
    return model


def rescale(model: Model, registration: Registration) -> None:
    """Ask the cluster that computes a model for another number of replicas. Nothing else computes in any number."""
    from app.cluster.engine import RayEngine

    if isinstance(model.engine, RayEngine):
        model.engine.rescale(registration.min_workers, registration.max_workers)
        model.line.resize(_in_flight(registration))


def away(engine: Engine) -> str | None:
    """Why the cluster that an engine stands for does not compute; empty where it does, None where the engine itself
    does."""
    from app.cluster.engine import RayEngine

    return engine.away() if isinstance(engine, RayEngine) else None


def _in_flight(registration: Registration) -> int:
    """What the replicas may be computing, where this process alone asks them."""
    return Scale(batch_size=registration.batch_size).ongoing * max(1, registration.max_workers)


def _open_on_cluster(path: Path, registration: Registration, settings: Settings) -> Opened:
    from app.cluster.engine import open_on_cluster

    scale = scale_of(registration, settings)
    return open_on_cluster(path, registration.name, scale, registration.response_timeout, settings)
