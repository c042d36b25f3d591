"""Sources of models: the models folder, web servers, the catalogue, and the models that are served from the start."""

from __future__ import annotations

import logging
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from app.backend.registrations import Registration, RegistrationFile, Registrations
from app.errors import (
    DataError,
    DimpleError,
    DownloadError,
    FetchError,
    ModelFormatError,
    ModelNotInStore,
    RegistryBusy,
    StorageError,
)
from app.formats.archive.cache import SUFFIXES as ARCHIVE_SUFFIXES
from app.formats.archive.cache import archive_name, is_archive, open_archive
from app.formats.archive.manifest import own_handler, read_manifest
from app.formats.folder import is_model_file, is_model_folder
from app.handlers.worker import usable_gpus
from app.security.ssrf import FetchPolicy
from app.settings import Settings
from app.utils.download import Patience, download
from app.utils.system import default_worker_count

log = logging.getLogger(__name__)

__all__ = ["ARCHIVE_SUFFIXES", "ByName", "is_remote", "locate"]

PATIENCE = Patience(tries=2)
"""Retry policy of downloads for which a client waits."""


ByName = Callable[[str], "Path | None"]
"""Function that fetches a model of a catalogue; it returns None if the catalogue does not have the name."""


def locate(
    url: str, models_dir: Path, archives: Path, by_name: ByName | None = None, reach: FetchPolicy | None = None
) -> Path:
    """Return the folder of a model: a folder under the models folder, or an unpacked local or downloaded archive.

    :param url: URL of a web server, a path under ``models_dir``, or a name that ``by_name`` knows.
    :param archives: folder for unpacked archives.
    :param reach: policy of allowed URLs; None allows all, for URLs from the server's operator.
    :raises ModelNotInStore: if nothing is there.
    :raises UrlNotAllowed: if ``reach`` does not allow it.
    :raises DownloadError: if it cannot be downloaded.
    :raises ModelFormatError: if the archive cannot be used.
    """
    if is_remote(url):
        with _fetched_archive(url, archives / "fetched", reach) as archive:
            return open_archive(archive, archives)
    if ".." in url:
        raise ModelNotInStore(f"Relative path is not allowed in url: {url}")
    path = models_dir / url.strip("/")
    try:
        if path.is_dir() and path != models_dir:
            return path
        if is_archive(path):
            return open_archive(path, archives)
    except (OSError, ValueError):  # an invalid file name
        pass
    if by_name and (path_by_name := by_name(url)):
        return path_by_name
    raise ModelNotInStore(f"Model not found in model store: {url}")


def is_remote(url: str) -> bool:
    """Return whether the URL is remote.

    :raises ModelNotInStore: if it is neither a URL nor a path.
    """
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        raise ModelNotInStore(f"Invalid model url: {url}") from None


@contextmanager
def _fetched_archive(url: str, folder: Path, reach: FetchPolicy | None) -> Iterator[Path]:
    """Download an archive for the duration of unpacking. It is not cached, because the URL may serve another one
    later."""
    try:
        parts = urlsplit(url)
        log.info("fetching a model from %s, port %s", parts.hostname, parts.port or "unsaid")
    except ValueError:  # the port is not a number
        raise ModelNotInStore(f"Invalid model url: {url}") from None
    own = folder / uuid.uuid4().hex
    try:
        name = PurePosixPath(unquote(parts.path)).name or "model.mar"
        yield download(url, own / name, patience=PATIENCE, reach=reach)
    except FetchError as error:
        raise DownloadError(f"Failed to download model from: {url}, code: {error.response_status}") from None
    except DataError:
        raise DownloadError(f"Failed to download model from: {url}") from None
    finally:
        shutil.rmtree(own, ignore_errors=True)


ALL = "ALL"
NONE = "NONE"
SPEC = re.compile(r"(?:(?P<name>[\w.\-]+)\s*=\s*)?(?P<location>.+)", re.DOTALL)
"""Pattern of ``[name=]location``. A URL may contain a ``=``, but not before its ``:``."""


@dataclass(frozen=True)
class ModelSpec:
    """A model in the settings: its location, and its name if given."""

    location: str
    name: str = ""


def named_models(load_models: str) -> tuple[ModelSpec, ...] | None:
    """Parse the setting ``load_models``: a list of ``[name=]location``; None stands for all models."""
    text = load_models.strip()
    if text.upper() == ALL:
        return None
    if text.upper() == NONE:
        return ()
    matches = [SPEC.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    return tuple(ModelSpec(match["location"], match["name"] or "") for match in matches if match)


def find_startup_models(settings: Settings, known: Mapping[str, Registration]) -> Iterator[Registration]:
    """Find the models that are served from the start. If one cannot be found, downloaded or unpacked, its ``failure``
    has the reason; the others are not affected.

    :param known: existing registrations, so that a remote model is downloaded only once.
    """
    specs = named_models(settings.load_models)
    if specs is not None:
        yield from (_named_registration(spec, settings, known) for spec in specs)
        return
    if not settings.models_dir.is_dir():
        log.warning("there is no models folder %s: nothing is loaded from it", settings.models_dir)
        return
    for path in sorted(settings.models_dir.iterdir()):
        if is_model_folder(path):
            yield _registration(path.name, path.name, path, settings)
        elif is_archive(path) and path.suffix.lower() != ".zip":  # a zip may contain pictures
            yield _archive_registration(path, settings)
        elif is_model_file(path) and not path.name.endswith(".params"):  # reported under its symbol
            reason = f"{path} lies in the models folder itself. Make a model of it: dimple models import {path}"
            yield _failed_registration(path.name, path.name, path, ModelFormatError(reason))


def merge_startup_models(known: Registrations, startup_models: Iterable[Registration]) -> Registrations:
    """Return the registrations after a start: the existing ones merged with the models found at the start.

    An unregistered model stays unregistered, and a changed one keeps its numbers. A model that an earlier start found
    is removed if it was not changed and is not found now.
    """
    by_name = {model.name: model for model in startup_models}
    models = {
        name: model
        for name, model in known.models.items()
        if name not in by_name and (Path(model.path).exists() if model.removed else model.changed)
    }
    number = known.next_generation
    for name, one in by_name.items():
        before = known.models.get(name)
        if before is not None and not before.failure and not one.failure:
            base = before if before.changed else one
            if before.removed or (before.path != one.path and before.url != one.url):  # registered from elsewhere
                models[name] = before
                continue
            if before.path == one.path:
                models[name] = replace(base, at_startup=True, generation=before.generation)
                continue
            one = replace(base, path=one.path)  # the archive was repacked
        models[name] = replace(one, at_startup=True, generation=number)
        number += 1
    return Registrations(models, number)


def restore_unregistered(settings: Settings) -> None:
    """Serve models of the settings again that were unregistered. Call this once for each start of the server, not for
    each of its processes: models stay unregistered between starts."""
    locations = {model.location for model in named_models(settings.load_models) or ()}
    if not locations or not settings.instance_dir.is_dir():
        return
    file = RegistrationFile(settings.instance_dir)
    try:
        with file.locked():
            known = file.recover()
            models = {
                name: model for name, model in known.models.items() if not (model.removed and model.url in locations)
            }
            if len(models) < len(known.models):
                file.write(replace(known, models=models))
    except (RegistryBusy, StorageError) as error:
        log.error("what was unregistered stays away: %s", error)


def _archive_registration(path: Path, settings: Settings) -> Registration:
    try:
        folder = open_archive(path, settings.instance_dir / "archives")
    except (ModelFormatError, StorageError) as error:
        return _failed_registration(archive_name(path), path.name, path, error)
    return _registration(folder.name, path.name, folder, settings)


def _named_registration(spec: ModelSpec, settings: Settings, known: Mapping[str, Registration]) -> Registration:
    try:
        if is_remote(spec.location):
            return _fetched_registration(spec, settings, known)
        folder = _local_registration(spec.location, settings)
        return _registration(_name(spec, folder), spec.location, folder, settings)
    except (ModelFormatError, ModelNotInStore, DownloadError, StorageError) as error:
        return _failed_registration(
            spec.name or archive_name(Path(spec.location)), spec.location, Path(spec.location), error
        )


def _local_registration(location: str, settings: Settings) -> Path:
    """Return the path of a location, absolute or under the models folder."""
    path, archives = Path(location), settings.instance_dir / "archives"
    if not path.is_absolute():
        return locate(location, settings.models_dir, archives)
    if path.is_dir():
        return path
    if is_archive(path):
        return open_archive(path, archives)
    raise ModelNotInStore(f"{location} is neither a model folder nor an archive that can be read")


def _fetched_registration(spec: ModelSpec, settings: Settings, known: Mapping[str, Registration]) -> Registration:
    """Fetch a model at the first start that names it, and keep it like a registered model."""
    for before in known.values():
        if before.url == spec.location and Path(before.path).is_dir() and spec.name in ("", before.name):
            return replace(before, removed=False, failure="")
    folder = locate(spec.location, settings.models_dir, settings.instance_dir / "archives")
    return _registration(_name(spec, folder), spec.location, folder, settings)


def _name(spec: ModelSpec, folder: Path) -> str:
    return spec.name or read_manifest(folder).model_name or folder.name


def _registration(name: str, url: str, path: Path, settings: Settings) -> Registration:
    """Return the default registration of a model. A model with its own code gets a worker for each GPU, or else for
    each server process."""
    count = settings.default_workers_per_model or settings.workers or default_worker_count()
    runtime = Registration.runtime
    try:
        runtime = read_manifest(path).runtime
        if own_handler(path, "", settings.default_service_handler):
            count = settings.default_workers_per_model or usable_gpus(settings.number_of_gpu) or count
    except ModelFormatError:
        pass  # opening the model reports the error
    timeout = float(settings.response_timeout)
    return Registration(
        name, url, str(path), runtime=runtime, min_workers=count, max_workers=count, response_timeout=timeout
    )


def _failed_registration(name: str, url: str, path: Path, error: DimpleError) -> Registration:
    log.error("the model %s is not served: %s", url, error)
    return Registration(name, url, str(path), failure=str(error))
