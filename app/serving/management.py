"""The operations of the management API, without HTTP."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.backend.registrations import Registration
from app.backend.sources import ByName, locate
from app.errors import BadInput, BadParameter, MissingParameter, ModelFormatError
from app.formats.archive.manifest import NAME, Manifest, read_manifest
from app.handlers.types import WorkerStatus
from app.handlers.worker import LOAD_SECONDS
from app.security.ssrf import fetch_policy
from app.serving.custom_model import CustomModel
from app.serving.loader import Entry
from app.serving.registry import Registry
from app.settings import Settings

log = logging.getLogger(__name__)

RUNTIMES = ("python", "python2", "python3")
PAGE = 100


@dataclass(frozen=True)
class RegistrationRequest:
    """A request to register a model. Empty strings and a ``response_timeout`` of 0 select the archive's values or our
    defaults. ``replacing`` replaces a model of the same name without an interruption."""

    url: str
    name: str
    workers: int
    handler: str = ""
    runtime: str = ""
    batch_size: int = 1
    max_batch_delay: int = 100
    response_timeout: float = 0.0
    replacing: bool = False


def register(
    registry: Registry, order: RegistrationRequest, settings: Settings, by_name: ByName | None = None
) -> Entry:
    """Find or download a model, load it, and serve it.

    :param by_name: function that fetches a model by its name in a catalogue.
    :raises MissingParameter: if no URL is given.
    :raises BadParameter: if the runtime or the name cannot be used.
    :raises ModelNotInStore: if nothing is there.
    :raises UrlNotAllowed: if the URL is not allowed.
    :raises DownloadError: if it cannot be downloaded.
    :raises ModelFormatError: if it cannot be loaded.
    :raises ModelConflict: if a model of that name is registered.
    """
    if not order.url:
        raise MissingParameter("url")
    if order.runtime and order.runtime not in RUNTIMES:
        raise BadInput(f"Invalid RuntimeType value: {order.runtime}")
    path = locate(order.url, settings.models_dir, settings.instance_dir / "archives", by_name, fetch_policy(settings))
    manifest = read_manifest(path)
    name = order.name or manifest.model_name or path.name
    if not NAME.fullmatch(name):
        raise BadParameter("model_name", name, "letters, digits, '_', '-' and '.', the first a letter or a digit")
    return registry.register(
        Registration(
            name=name,
            url=order.url,
            path=str(path),
            handler=order.handler,
            runtime=order.runtime or manifest.runtime,
            batch_size=order.batch_size,
            max_batch_delay=order.max_batch_delay,
            min_workers=max(0, order.workers),
            max_workers=max(0, order.workers),
            response_timeout=order.response_timeout or float(settings.response_timeout),
        ),
        order.replacing,
    )


def scale(registry: Registry, name: str, least: int, most: int, synchronous: bool) -> None:
    """Change the minimum and maximum number of a model's workers.

    :raises BadInput: if the minimum exceeds the maximum.
    :raises ModelNotFound: if no model has that name.
    """
    if most < least:
        raise BadInput("max_worker cannot be less than min_worker.")
    if least < 0:
        raise BadParameter("min_worker", least, "0 or more")
    registry.scale(name, least, most, LOAD_SECONDS if synchronous else 0)


def list_page(registry: Registry, limit: int, start: int) -> dict[str, Any]:
    """Return a page of the models, with a token for the next page unless this is the last."""
    limit = limit if 0 <= limit <= PAGE else PAGE
    start = max(0, start)
    entries = registry.entries()
    page = entries[start : start + limit]
    document: dict[str, Any] = {"nextPageToken": str(start + limit)} if start + limit <= len(entries) else {}
    return document | {"models": [{"modelName": item.name, "modelUrl": item.registration.url} for item in page]}


def describe(entry: Entry) -> dict[str, Any]:
    """Return a description of a model and its workers. All workers of one process share its memory figure."""
    registration, manifest = entry.registration, _manifest(entry)
    document = {
        "modelName": entry.name,
        **({"modelVersion": manifest.model_version} if manifest.model_version else {}),
        "modelUrl": registration.url,
        **({"engine": manifest.engine} if manifest.engine else {}),
        "runtime": registration.runtime,
        "minWorkers": registration.min_workers,
        "maxWorkers": registration.max_workers,
        "batchSize": registration.batch_size,
        "maxBatchDelay": registration.max_batch_delay,
        "loadedAtStartup": entry.at_startup,
        "workers": _workers(entry),
    }
    return document | ({} if entry.model else {"status": "FAILED", "lastError": entry.failure})


def _manifest(entry: Entry) -> Manifest:
    try:
        return read_manifest(Path(entry.registration.path))
    except ModelFormatError:
        return Manifest()


def _workers(entry: Entry) -> list[dict[str, Any]]:
    if isinstance(entry.model, CustomModel):
        return [_process(status) for status in entry.model.workers()]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    state = "READY" if entry.model else "UNLOADING"
    return [
        _worker(f"9000-{number:08x}", entry.since, state, memory) for number in range(entry.registration.min_workers)
    ]


def _process(status: WorkerStatus) -> dict[str, Any]:
    document = _worker(status.id, status.started, status.state.name, status.memory_bytes)
    more = {"pid": status.pid, "restarts": status.restarts, "lastError": status.last_error}
    return document | {"gpu": status.gpu_id is not None} | more


def _worker(identity: str, started: datetime | None, state: str, memory: int) -> dict[str, Any]:
    since = started.strftime("%Y-%m-%dT%H:%M:%S.") + f"{started.microsecond // 1000:03d}Z" if started else ""
    return {"id": identity, "startTime": since, "status": state, "gpu": False, "memoryUsage": memory}
