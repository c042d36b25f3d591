"""The places where models are found: the models folder, web servers, a catalogue."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from app.download import Patience, download
from app.errors import DataError, DownloadError, FetchError, ModelNotInStore
from app.formats.archive.opening import SUFFIXES as ARCHIVE_SUFFIXES
from app.formats.archive.opening import is_archive, open_archive
from app.reach import Reach

__all__ = ["ARCHIVE_SUFFIXES", "ByName", "is_remote", "locate"]

log = logging.getLogger(__name__)

PATIENCE = Patience(tries=2)
"""The client waits meanwhile."""


ByName = Callable[[str], "Path | None"]
"""Fetches a model of a catalogue; None where that has none of the name."""


def locate(
    url: str, models_dir: Path, archives: Path, by_name: ByName | None = None, reach: Reach | None = None
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
        with _fetched(url, archives / "fetched", reach) as archive:
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
    if by_name and (found := by_name(url)):
        return found
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
def _fetched(url: str, folder: Path, reach: Reach | None) -> Iterator[Path]:
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
