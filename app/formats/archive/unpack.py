"""From an archive to a model folder, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from app.errors import InvalidArchive, ModelFormatError, of_system
from app.formats.archive.entries import read_entries
from app.formats.archive.limits import Limits, Meter
from app.formats.archive.manifest import CURRENT, find_legacy_manifest
from app.formats.archive.names import Paths
from app.formats.lfs import refuse_pointer
from app.progress import Progress, progress
from app.utils.files import replacing


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a ``.mar``, ``.model``, ``.zip`` or ``.tar.gz`` into a new folder.

    A folder around everything, as model-archiver's tgz has one, is left out. Files get this system's usual rights,
    whatever the archive says. Where it fails, nothing is left behind.

    :param target: the folder to be made; it must not be there yet, what it is in must.
    :returns: ``target``.
    :raises InvalidArchive: where the archive is damaged, holds names or kinds of entries that are not safe, or is
        larger than the limits.
    :raises ModelFormatError: where the folder cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise ModelFormatError(f"{target} is there already. Remove it, or name another folder")
    if not archive.is_file():
        raise InvalidArchive(f"{archive} is no file")
    refuse_pointer(archive)
    try:
        with replacing(target) as partial:
            partial.mkdir()
            _write_all(archive, partial, limits or Limits())
            _lift(partial)
    except InvalidArchive as error:
        raise InvalidArchive(f"{archive} is no model archive that can be used: {error}") from None
    except OSError as error:
        if problem := of_system(error):
            raise problem from None
        raise ModelFormatError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def _write_all(archive: Path, folder: Path, limits: Limits) -> None:
    paths, meter, files = Paths(), Meter(limits, archive.stat().st_size), 0
    with closing(read_entries(archive, limits)) as entries, progress(f"unpacking {archive.name}", None, "B") as shown:
        for entry in entries:
            meter.begin_entry()
            path = paths.take(entry.name, is_folder=entry.pieces is None)
            if path is not None and entry.pieces is None:
                (folder / path).mkdir(parents=True, exist_ok=True)
            elif path is not None and entry.pieces is not None:
                _write(entry.pieces(), folder / path, meter, shown)
                files += 1
    if not files:
        raise InvalidArchive("it holds no file")


def _write(pieces: Iterator[bytes], path: Path, meter: Meter, shown: Progress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for piece in pieces:
            meter.add(len(piece))
            file.write(piece)
            shown.advance(len(piece))


def _lift(folder: Path) -> None:
    """Move the model up where it lies one folder down: the only one there, or that of a manifest of MMS 0.x."""
    inner = _inner(folder)
    if inner is None:
        return
    inner = inner.rename(folder / f".{uuid4().hex}")  # out of the way of what it holds
    for path in inner.iterdir():
        if (folder / path.name).exists():
            raise InvalidArchive(f"it has {path.name!r} both beside its manifest and above")
        path.rename(folder / path.name)
    inner.rmdir()


def _inner(folder: Path) -> Path | None:
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name != CURRENT.parent.name:
        return inside[0]
    manifest = None if (folder / CURRENT).is_file() else find_legacy_manifest(folder)
    return manifest.parent if manifest is not None and manifest.parent != folder else None
