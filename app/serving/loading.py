"""From a registration to a model that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.formats.folder import open_model_folder
from app.machine import cores
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
    folder = replace(open_model_folder(path), name=registration.name)
    model = open_model(folder, settings.engine, limits, settings.cache)
    if settings.scaled_decoding:
        return replace(model, enough_pixels=enough_pixels(model.preprocess, model.input.shape))
    return model
