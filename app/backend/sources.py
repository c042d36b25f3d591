"""Sources of models: the models folder, web servers, the catalogue, and what is served from the start."""

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
"""The client waits meanwhile."""


ByName = Callable[[str], "Path | None"]
"""Fetches a model of a catalogue; None where that has none of the name."""


def locate(
    url: str, models_dir: Path, archives: Path, by_name: ByName | None = None, reach: FetchPolicy | None = None
) -> Path:
    """Return the folder of a model: of the models folder, or unpacked from an archive that lies there or is fetched.

    :param url: of a web server, a path under ``models_dir``, or a name that ``by_name`` knows.
    :param archives: where archives are unpacked.
    :param reach: what may be fetched; None, where whoever runs the server names the URL, allows all.
    :raises ModelNotInStore: where nothing lies there.
    :raises UrlNotAllowed: where ``reach`` does not allow it.
    :raises DownloadError: where it cannot be fetched.
    :raises ModelFormatError: where the archive cannot be used.
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
    except (OSError, ValueError):  # no file can be called so
        pass
    if by_name and (path_by_name := by_name(url)):
        return path_by_name
    raise ModelNotInStore(f"Model not found in model store: {url}")


def is_remote(url: str) -> bool:
    """Return whether a web server is to be asked.

    :raises ModelNotInStore: where it is no URL, nor a path.
    """
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        raise ModelNotInStore(f"Invalid model url: {url}") from None


@contextmanager
def _fetched_archive(url: str, folder: Path, reach: FetchPolicy | None) -> Iterator[Path]:
    """Fetch an archive, for as long as it takes to unpack it: tomorrow the same URL may have another."""
    try:
        parts = urlsplit(url)
        log.info("fetching a model from %s, port %s", parts.hostname, parts.port or "unsaid")
    except ValueError:  # a port that is no number
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
"""A URL may have a ``=`` of its own, but not before its ``:``."""


@dataclass(frozen=True)
class ModelSpec:
    """A model that the settings name: where it lies, and what it is to be called, if they say."""

    location: str
    name: str = ""


def named_models(load_models: str) -> tuple[ModelSpec, ...] | None:
    """Read the setting ``load_models``: a list of ``[name=]location``; None stands for everything there is."""
    text = load_models.strip()
    if text.upper() == ALL:
        return None
    if text.upper() == NONE:
        return ()
    matches = [SPEC.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    return tuple(ModelSpec(match["location"], match["name"] or "") for match in matches if match)


def find_startup_models(settings: Settings, known: Mapping[str, Registration]) -> Iterator[Registration]:
    """Find the models that are to be served from the start. One that cannot be found, fetched or unpacked has the
    reason as its ``failure``, and spoils no other.

    :param known: what is registered already, so that a model that has to be fetched is fetched once.
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
        elif is_archive(path) and path.suffix.lower() != ".zip":  # a zip may as well hold pictures
            yield _archive_registration(path, settings)
        elif is_model_file(path) and not path.name.endswith(".params"):  # its symbol is named
            reason = f"{path} lies in the models folder itself. Make a model of it: dimple models import {path}"
            yield _failed_registration(path.name, path.name, path, ModelFormatError(reason))


def merge_startup_models(known: Registrations, startup_models: Iterable[Registration]) -> Registrations:
    """Return what is to be served after a start: what was registered, with the models that are found at the start.

    A model that was unregistered stays away, and one that was changed keeps its numbers. One that was found at an
    earlier start, and neither changed nor found now, is forgotten.
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
            one = replace(base, path=one.path)  # the archive was packed anew
        models[name] = replace(one, at_startup=True, generation=number)
        number += 1
    return Registrations(models, number)


def restore_unregistered(settings: Settings) -> None:
    """Serve again what the settings name and somebody has unregistered. To be called once for each start of the server,
    not for each of its processes: in between, what was unregistered stays away."""
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
    """Return a path of any folder, or one under the models folder."""
    path, archives = Path(location), settings.instance_dir / "archives"
    if not path.is_absolute():
        return locate(location, settings.models_dir, archives)
    if path.is_dir():
        return path
    if is_archive(path):
        return open_archive(path, archives)
    raise ModelNotInStore(f"{location} is neither a model folder nor an archive that can be read")


def _fetched_registration(spec: ModelSpec, settings: Settings, known: Mapping[str, Registration]) -> Registration:
    """Fetch a model at the first start that names it; it is kept like what is registered."""
    for before in known.values():
        if before.url == spec.location and Path(before.path).is_dir() and spec.name in ("", before.name):
            return replace(before, removed=False, failure="")
    folder = locate(spec.location, settings.models_dir, settings.instance_dir / "archives")
    return _registration(_name(spec, folder), spec.location, folder, settings)


def _name(spec: ModelSpec, folder: Path) -> str:
    return spec.name or read_manifest(folder).model_name or folder.name


def _registration(name: str, url: str, path: Path, settings: Settings) -> Registration:
    """Return how a model is served if nobody has said otherwise. One with code of its own gets a worker for each GPU,
    or for each server process."""
    count = settings.default_workers_per_model or settings.workers or default_worker_count()
    runtime = Registration.runtime
    try:
        runtime = read_manifest(path).runtime
        if own_handler(path, "", settings.default_service_handler):
            count = settings.default_workers_per_model or usable_gpus(settings.number_of_gpu) or count
    except ModelFormatError:
        pass  # what is wrong with it will be told when it is opened
    timeout = float(settings.response_timeout)
    return Registration(
        name, url, str(path), runtime=runtime, min_workers=count, max_workers=count, response_timeout=timeout
    )


def _failed_registration(name: str, url: str, path: Path, error: DimpleError) -> Registration:
    log.error("the model %s is not served: %s", url, error)
    return Registration(name, url, str(path), failure=str(error))
