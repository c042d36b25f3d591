"""Which models are served from the start: those of the models folder, or those that the settings name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import DimpleError, DownloadError, ModelFormatError, ModelNotInStore, RegistryBusy, StorageError
from app.formats.archive.manifest import read_manifest
from app.formats.archive.opening import archive_name, is_archive, open_archive
from app.formats.folder import is_model_file, is_model_folder
from app.handlers.gpus import usable_gpus
from app.lock import locked
from app.machine import server_processes
from app.serving.handled import own_handler
from app.serving.location import is_remote, located
from app.serving.store import Registration, Store
from app.settings import Settings

ALL = "ALL"
NONE = "NONE"
NAMED = re.compile(r"(?:(?P<name>[\w.\-]+)\s*=\s*)?(?P<location>.+)", re.DOTALL)
"""A URL may have a ``=`` of its own, but not before its ``:``."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """A model that is to be served from the start, or the reason why it cannot be."""

    registration: Registration
    failure: str = ""


@dataclass(frozen=True)
class Named:
    """A model that the settings name: where it lies, and what it is to be called, if they say."""

    location: str
    name: str = ""


def named_models(load_models: str) -> tuple[Named, ...] | None:
    """Read the setting ``load_models``: a list of ``[name=]location``; None stands for everything there is."""
    text = load_models.strip()
    if text.upper() == ALL:
        return None
    if text.upper() == NONE:
        return ()
    found = [NAMED.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    return tuple(Named(one["location"], one["name"] or "") for one in found if one)


def told_models(settings: Settings, store: Store) -> Iterator[Told]:
    """Find the models that are to be served from the start. What cannot be found, fetched or unpacked spoils no other.

    :param store: where the models are kept that have to be fetched, so that each is fetched once.
    """
    named = named_models(settings.load_models)
    if named is not None:
        for one in named:
            yield _named(one, settings, store)
        return
    if not settings.models_dir.is_dir():
        log.warning("there is no models folder %s: nothing is loaded from it", settings.models_dir)
        return
    for path in sorted(settings.models_dir.iterdir()):
        if is_model_folder(path):
            yield Told(_registration(path.name, path.name, path, settings))
        elif is_archive(path) and path.suffix.lower() != ".zip":  # a zip may as well hold pictures
            yield _archive(path, settings)
        elif is_model_file(path) and not path.name.endswith(".params"):  # its symbol is named
            reason = f"{path} lies in the models folder itself. Make a model of it: flask models import {path}"
            yield _failed(path.name, path.name, path, ModelFormatError(reason))


def revive(settings: Settings) -> None:
    """Serve again what the settings name and somebody has unregistered. To be called once for each start of the server,
    not for each of its processes: in between, what was unregistered stays away."""
    named = named_models(settings.load_models) or ()
    path = settings.instance_dir / "registry.sqlite3"
    if not named or not path.is_file():
        return
    try:
        store = Store(path)
    except (RegistryBusy, StorageError):
        return  # whoever loads the models will say so
    locations = {one.location for one in named}
    try:
        for registration in store.all().values():
            if registration.removed and registration.url in locations:
                store.remove(registration.name)
    except (RegistryBusy, StorageError) as error:
        log.error("what was unregistered stays away: %s", error)
    finally:
        store.close()


def _archive(path: Path, settings: Settings) -> Told:
    try:
        folder = open_archive(path, settings.instance_dir / "archives")
    except (ModelFormatError, StorageError) as error:
        return _failed(archive_name(path), path.name, path, error)
    return Told(_registration(folder.name, path.name, folder, settings))


def _named(one: Named, settings: Settings, store: Store) -> Told:
    try:
        if is_remote(one.location):
            return Told(_fetched(one, settings, store))
        folder = _local(one.location, settings)
        return Told(_registration(_name(one, folder), one.location, folder, settings))
    except (ModelFormatError, ModelNotInStore, DownloadError, RegistryBusy, StorageError) as error:
        return _failed(one.name or archive_name(Path(one.location)), one.location, Path(one.location), error)


def _local(location: str, settings: Settings) -> Path:
    """A path of any folder, or one under the models folder."""
    path, archives = Path(location), settings.instance_dir / "archives"
    if not path.is_absolute():
        return located(location, settings.models_dir, archives)
    if path.is_dir():
        return path
    if is_archive(path):
        return open_archive(path, archives)
    raise ModelNotInStore(f"{location} is neither a model folder nor an archive that can be read")


def _fetched(one: Named, settings: Settings, store: Store) -> Registration:
    """Every process asks for it, and every start: it is fetched by the first, and kept like what is registered."""
    archives = settings.instance_dir / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    with locked(archives / "startup.lock"):
        for known in store.all().values():
            if known.url == one.location and Path(known.path).is_dir() and one.name in ("", known.name):
                return known
        folder = located(one.location, settings.models_dir, archives)
        registration = _registration(_name(one, folder), one.location, folder, settings)
        store.replace(registration)
        return registration


def _name(one: Named, folder: Path) -> str:
    return one.name or read_manifest(folder).model_name or folder.name


def _registration(name: str, url: str, path: Path, settings: Settings) -> Registration:
    """How a model is served where nobody has said otherwise. One with code of its own gets, in all processes of the
    server together, as many workers as the others are said to have."""
    count = settings.default_workers_per_model or settings.workers or server_processes()
    runtime = Registration.runtime
    try:
        runtime = read_manifest(path).runtime
        if own_handler(path, "", settings.default_service_handler):
            count = settings.default_workers_per_model or usable_gpus(settings.number_of_gpu) or count
            count = max(1, count // (settings.workers or server_processes()))
    except ModelFormatError:
        pass  # what is wrong with it will be told when it is opened
    timeout = float(settings.response_timeout)
    return Registration(
        name, url, str(path), runtime=runtime, min_workers=count, max_workers=count, response_timeout=timeout
    )


def _failed(name: str, url: str, path: Path, error: DimpleError) -> Told:
    log.error("the model %s is not served: %s", url, error)
    return Told(Registration(name, url, str(path)), str(error))
