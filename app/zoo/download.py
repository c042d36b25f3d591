"""Download of a model's files from one of several sources."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from app.errors import DataError
from app.settings import ROOT, Settings
from app.utils.download import Patience, download
from app.utils.files import sha256_file
from app.zoo.catalogue import Base, CatalogueEntry

GLUON_SOURCE = "gluon"
"""The source that ``MXNET_GLUON_REPO`` replaces."""
PATIENCE = Patience(tries=2)
"""Retries for one source: few, because there are others, and a try that brings new bytes is not counted."""


@dataclass(frozen=True)
class Sources:
    """The models folder, the work folder, and the sources to try first.

    ``mirror`` (a URL or a folder) is tried first; ``gluon_repo`` replaces Gluon's repository, as it does in Gluon. Each
    is empty if it is not set.
    """

    models_dir: Path
    work_dir: Path
    mirror: str = ""
    gluon_repo: str = ""


def configured_sources(settings: Settings, environ: Mapping[str, str] = os.environ) -> Sources:
    """Return the sources that the settings and ``MXNET_GLUON_REPO`` in the environment name."""
    repo = environ.get("MXNET_GLUON_REPO", "").strip()
    return Sources(settings.models_dir, settings.instance_dir / "zoo", settings.mirror, repo)


def bases(entry: CatalogueEntry, sources: Sources) -> list[Base]:
    """Return the sources of a model in the order in which they are tried."""
    listed = [Base(sources.mirror)] if sources.mirror else []
    if entry.source == GLUON_SOURCE and sources.gluon_repo:
        listed.append(Base(sources.gluon_repo))
        return listed + [base for base in entry.bases if base.flat]
    return listed + list(entry.bases)


def public(base: Base) -> str:
    """Return a source's location without user name and password, for messages and records."""
    parts = urlsplit(base.location)
    if "@" not in parts.netloc:
        return base.location
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def fetch(entry: CatalogueEntry, base: Base, folder: Path, patience: Patience = PATIENCE) -> list[Path]:
    """Fetch all files of a model from one source.

    Files in a local folder are used in place. Downloads go to ``folder``, with a subfolder for each URL so that a
    partial download from one source is never continued from another.

    :returns: the files, in the entry's order.
    :raises DataError: if the source lacks a file.
    """
    return [_one(entry, path, base, folder, patience) for path in entry.files]


def verify(entry: CatalogueEntry, path: Path) -> None:
    """Compare a file of weights with the published checksum, if there is one.

    :raises DataError: if the checksums differ.
    """
    algorithm, _, expected = entry.checksum.partition(":")
    if not expected:
        return
    actual = sha256_file(path, algorithm)
    if actual != expected:
        name = {"sha1": "SHA-1", "sha256": "SHA-256"}[algorithm]
        raise DataError(f"{path.name} has the {name} {actual}, but {expected} was published: it was changed or damaged")


def clear(folder: Path) -> None:
    """Remove the downloads in a folder, except partial ones that a later run can continue."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and not path.name.endswith((".partial", ".partial.json")):
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def remove(path: Path) -> None:
    """Remove a folder and its content, if it exists."""
    shutil.rmtree(path, ignore_errors=True)


def _one(entry: CatalogueEntry, path: str, base: Base, folder: Path, patience: Patience) -> Path:
    local = _local(base)
    if local is not None:
        return _find_local(entry, path, local)
    url = f"{base.location.rstrip('/')}/{quote(_last(path) if base.flat else path)}"
    try:
        return download(url, folder / hashlib.sha256(url.encode()).hexdigest()[:16] / _last(path), patience=patience)
    except DataError as error:
        # download()'s advice names the option --source of data sets, and its message may contain a password
        reason = str(error).partition(" Try again later")[0].rstrip(".")
        raise DataError(reason.replace(base.location, public(base))) from None


def _local(base: Base) -> Path | None:
    """Return the folder of a source; None if the source is on the web."""
    parts = urlsplit(base.location)
    if parts.scheme in ("http", "https"):
        return None
    # a relative folder is relative to the checkout, as in the settings
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else ROOT / base.location


def _find_local(entry: CatalogueEntry, path: str, local: Path) -> Path:
    """Find a file in a folder, either at its path in the source or flat, as a browser saves it. Gluon's parameters may
    be unpacked already, as they are in ``~/.mxnet/models``."""
    candidates = [local / path, local / _last(path)]
    if entry.kind == "gluon":
        candidates += [candidate.with_suffix(".params") for candidate in candidates if candidate.suffix == ".zip"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(f"{local} holds no {path}" + (f", nor {_last(path)}" if path != _last(path) else ""))


def _last(path: str) -> str:
    return PurePosixPath(path).name
