"""The files of a model, from one of the places that may have them."""

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
"""The source that ``MXNET_GLUON_REPO`` stands for."""
PATIENCE = Patience(tries=2)
"""There are more places; a try that brings new bytes is not counted anyway."""


@dataclass(frozen=True)
class Sources:
    """Where models are put, where work is done, and where files are looked for before anywhere else.

    ``mirror`` (a URL or a folder) is tried first; ``gluon_repo`` takes the place of Gluon's own, as in Gluon. Both are
    empty where there is none.
    """

    models_dir: Path
    work_dir: Path
    mirror: str = ""
    gluon_repo: str = ""


def configured_sources(settings: Settings, environ: Mapping[str, str] = os.environ) -> Sources:
    """Return the places that the settings, and ``MXNET_GLUON_REPO`` in the environment, give."""
    repo = environ.get("MXNET_GLUON_REPO", "").strip()
    return Sources(settings.models_dir, settings.instance_dir / "zoo", settings.mirror, repo)


def bases(entry: CatalogueEntry, sources: Sources) -> list[Base]:
    """Return the places that are tried for a model, in their order."""
    listed = [Base(sources.mirror)] if sources.mirror else []
    if entry.source == GLUON_SOURCE and sources.gluon_repo:
        listed.append(Base(sources.gluon_repo))
        return listed + [base for base in entry.bases if base.flat]
    return listed + list(entry.bases)


def public(base: Base) -> str:
    """Return a place as it may be shown and written down: without a user's name and password."""
    parts = urlsplit(base.location)
    if "@" not in parts.netloc:
        return base.location
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def fetch(entry: CatalogueEntry, base: Base, folder: Path, patience: Patience = PATIENCE) -> list[Path]:
    """Get all files of a model from one place.

    A folder's are used where they lie. What is downloaded goes to ``folder``, each URL's into a folder of its own, so
    that one place does not take the beginning that came from another for its own.

    :returns: the files, in the entry's order.
    :raises DataError: where the place does not have them all.
    """
    return [_one(entry, path, base, folder, patience) for path in entry.files]


def verify(entry: CatalogueEntry, path: Path) -> None:
    """Compare a file of weights with the published checksum, where there is one.

    :raises DataError: where it is another.
    """
    algorithm, _, expected = entry.checksum.partition(":")
    if not expected:
        return
    actual = sha256_file(path, algorithm)
    if actual != expected:
        name = {"sha1": "SHA-1", "sha256": "SHA-256"}[algorithm]
        raise DataError(f"{path.name} has the {name} {actual}, {expected} was published: it was changed or damaged")


def clear(folder: Path) -> None:
    """Remove what was downloaded to a folder, but for the beginnings that a later run can continue."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and not path.name.endswith((".partial", ".partial.json")):
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def remove(path: Path) -> None:
    """Remove a folder and all that is in it, where it is there."""
    shutil.rmtree(path, ignore_errors=True)


def _one(entry: CatalogueEntry, path: str, base: Base, folder: Path, patience: Patience) -> Path:
    local = _local(base)
    if local is not None:
        return _find_local(entry, path, local)
    url = f"{base.location.rstrip('/')}/{quote(_last(path) if base.flat else path)}"
    try:
        return download(url, folder / hashlib.sha256(url.encode()).hexdigest()[:16] / _last(path), patience=patience)
    except DataError as error:
        # its advice is for data sets, which have an option --source; and it does not know of passwords
        reason = str(error).partition(" Try again later")[0].rstrip(".")
        raise DataError(reason.replace(base.location, public(base))) from None


def _local(base: Base) -> Path | None:
    """Return the folder that a base is; None where it is on the web."""
    parts = urlsplit(base.location)
    if parts.scheme in ("http", "https"):
        return None
    # a relative folder is relative to the checkout, as in the settings
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else ROOT / base.location


def _find_local(entry: CatalogueEntry, path: str, local: Path) -> Path:
    """Find a file in a folder: laid out as at its source, or flat, as it comes out of a browser. Gluon's parameters may
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
