"""Fetch a model of the catalogue and put it among the models, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from app.download import Patience
from app.errors import DataError, DownloadError, ModelFormatError
from app.formats.archive.manifest import NAME
from app.lock import locked
from app.progress import say
from app.settings import Settings
from app.utils.files import swap_folder
from app.zoo.catalogue import resolve
from app.zoo.entry import Base, CatalogueEntry
from app.zoo.fetching import PATIENCE, Places, bases, clear, fetch, places, public, remove
from app.zoo.making import make, pulled_from


def pull(
    entry: CatalogueEntry, where: Places, name: str = "", force: bool = False, patience: Patience = PATIENCE
) -> Path:
    """Fetch a model and put it into the models folder.

    Where it is there already, nothing is done. Places are tried one after the other until one gives files that are what
    the catalogue says. What comes is kept and worked on in ``where.work_dir``; the model folder appears when it is
    whole. Several processes may do this at once: one works, the others wait for it.

    :param name: what the model is to be called; by default what the catalogue calls it.
    :param force: replace what is there under that name.
    :returns: the model folder.
    :raises ModelFormatError: where the name cannot be a model's, another model has it, no definition of the network is
        installed, or the folder cannot be written.
    :raises DownloadError: where no place has the model; it says what was wrong with each.
    """
    name = name or entry.name
    if not NAME.fullmatch(name):
        raise ModelFormatError(f"{name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    target = where.models_dir / name
    try:
        for folder in (where.models_dir, where.work_dir):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(where.work_dir / f"{name}.target.lock"):
            if force or not _is_there(entry, target):
                _check_network(entry)
                with locked(where.work_dir / f"{entry.name}.files.lock"):
                    _pull(entry, where, target, patience)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Make room, or let Dimple write there") from None
    return target


def by_name(settings: Settings, environ: Mapping[str, str] = os.environ) -> Callable[[str], Path | None]:
    """What fetches a model by its name in the catalogue, for those who may not know the catalogue.

    The function gives the model folder, None where the catalogue has no such name, and raises what :func:`pull` does.
    """

    def fetched(name: str) -> Path | None:
        entry = resolve(name, settings.instance_dir)
        return pull(entry, places(settings, environ)) if entry is not None else None

    return fetched


def _is_there(entry: CatalogueEntry, target: Path) -> bool:
    if not target.exists() and not target.is_symlink():
        return False
    if pulled_from(target) != entry.name:
        raise ModelFormatError(
            f"{target} is there already, and is not {entry.name} of the catalogue. "
            "Choose another name (--name), or replace it (--force)"
        )
    return True


def _check_network(entry: CatalogueEntry) -> None:
    """See that the network can be built before hundreds of megabytes are fetched for it."""
    if entry.kind == "gluon":
        from app.zoo.gluon import build

        build(entry.network, entry.classes)


def _pull(entry: CatalogueEntry, where: Places, target: Path, patience: Patience) -> None:
    work = where.work_dir / entry.name
    made = work / "made"
    failures = []
    try:
        for base in bases(entry, where):
            _clear(work)  # what another place left, or a killed process
            try:
                _make(entry, base, work, target.name, patience)
            except (DataError, ModelFormatError) as error:
                say(f"{entry.name}: not from {public(base)}: {error}")
                failures.append(f"{public(base)}: {error}")
                continue
            _put(made, target)
            remove(work)
            return
    finally:
        _clear(work)
    raise DownloadError(
        f"{entry.name} cannot be fetched. {'; '.join(failures)}. Try again later, or let DIMPLE_MIRROR name a URL or "
        f"a folder that has {' and '.join(entry.files)}"
    )


def _make(entry: CatalogueEntry, base: Base, work: Path, name: str, patience: Patience) -> None:
    files = fetch(entry, base, work, patience)
    work.mkdir(exist_ok=True)
    make(entry, files, work / "made", name, public(base))


def _clear(work: Path) -> None:
    for folder in work.glob("made*"):
        remove(folder)
    clear(work)


def _put(made: Path, target: Path) -> None:
    """Move the folder among the models; by way of a hidden one where these are on another file system."""
    try:
        swap_folder(made, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.partial")
        remove(beside)
        try:
            shutil.copytree(made, beside)
            swap_folder(beside, target)
        finally:
            remove(beside)
