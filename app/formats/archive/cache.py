"""A cache of unpacked archives, each unpacked once, served like a folder, and removed when no process uses it.

A process marks a folder as used by a shared lock on a file beside it, which it holds until it ends; the kernel then
releases the lock, however the process ended. Locking and removal happen only under the lock of the whole work folder,
so that no process begins to use a folder that another is removing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from app.errors import InvalidArchive, ModelFormatError, of_system
from app.formats.archive.manifest import NAME, read_manifest
from app.formats.archive.unpack import Limits, unpack
from app.utils.files import file_lock, replacing_folder, sha256_file

LOCK = ".lock"
DIGEST = re.compile("[0-9a-f]{64}")

_held: dict[Path, int] = {}
"""Descriptors of the locks by folder. Forked children share a descriptor; executed programs do not inherit it."""


def mark_in_use(home: Path) -> None:
    """Mark an unpacked archive as used until this process ends. The caller must hold the lock of the work folder.

    :raises OSError: if the lock file cannot be created.
    """
    path = _mark(home)
    if home in _held and path.exists():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if (old := _held.pop(home, None)) is not None:
        os.close(old)
    _held[home] = descriptor


def remove_unused(work_dir: Path, used: Iterable[Path]) -> list[Path]:
    """Remove folders unpacked by :func:`app.formats.archive.cache.open_archive` that are no longer needed, because
    their archive was replaced or removed.

    Call it after this process has opened its own archives. Folders that any living process has opened are spared.

    :param used: model folders that the next start needs, even if no process has opened them yet: those of all
        registrations.
    :raises ModelFormatError: if ``work_dir`` cannot be written.
    """
    if not work_dir.is_dir():
        return []
    spared = {path.resolve().parent.name for path in used}
    try:
        with file_lock(work_dir / LOCK):
            homes = [path for path in sorted(work_dir.iterdir()) if DIGEST.fullmatch(path.name)]
            return [home for home in homes if home.name not in spared and _remove(home)]
    except OSError as error:
        raise ModelFormatError(f"{work_dir} cannot be cleared: {error.strerror or error}") from None


def _remove(home: Path) -> bool:
    """Remove a folder unless a process has marked it; return whether it was removed."""
    mark = _mark(home)
    descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(home)
        mark.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _mark(home: Path) -> Path:
    return home.with_name(f".{home.name}.used")


SUFFIXES = (".mar", ".model", ".tar.gz", ".tgz", ".zip")
LISTING = "files.json"
LONGEST_NAME = 200
"""The longest name of a model. It becomes a folder's name, which may have 255 characters including affixes."""


def is_archive(path: Path) -> bool:
    """Return whether a file has the name of a model archive. Hidden files do not count: they may be half-written."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()


def archive_name(path: Path) -> str:
    """Return a model's name after its archive, for manifests without one: ``net_v1_1`` for ``net_v1.1.mar``."""
    lower = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    return re.sub(r"\W", "_", path.name[: len(path.name) - len(suffix)], flags=re.ASCII)


def open_archive(path: Path, work_dir: Path) -> Path:
    """Return the model folder of an archive, ``work_dir/SHA-256/NAME``; unpack the archive if necessary.

    The folder is named by the archive's content, so a changed archive gets a new one; a folder that lost a file is
    rebuilt. Concurrent processes are safe: one unpacks and the others wait. The folder has the manifest's name of the
    model, else a name from the archive's file name. :func:`app.formats.archive.cache.remove_unused` spares it while
    this process lives.

    :raises InvalidArchive: if the archive cannot be used; in MMS's words, if its manifest cannot.
    :raises ModelFormatError: if ``work_dir`` cannot be written.
    """
    home = work_dir / _digest(path)
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with file_lock(work_dir / LOCK):
            model_folder = _complete_folder(home) or _make(path, home)
            mark_in_use(home)
            return model_folder
    except OSError as error:
        if problem := of_system(error):
            raise problem from None
        raise ModelFormatError(f"{home} cannot be written: {error.strerror or error}. Let Dimple write there") from None


def unpack_into(path: Path, parent: Path, limits: Limits | None = None) -> Path:
    """Unpack an archive into a new folder in ``parent``, named by the manifest or else after the archive.

    :raises InvalidArchive: if the archive cannot be used.
    :raises ModelFormatError: if the folder exists already, or cannot be written.
    """
    unnamed = unpack(path, parent / f".{uuid4().hex}.partial", limits)
    try:
        target = parent / _name(path, unnamed)
        if target.exists() or target.is_symlink():
            raise ModelFormatError(f"{target} is there already. Remove it, or name another folder")
        os.replace(unnamed, target)
    finally:
        shutil.rmtree(unnamed, ignore_errors=True)
    return target


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise InvalidArchive(f"{path} cannot be read: {error.strerror}") from None


def _complete_folder(home: Path) -> Path | None:
    """Return the model folder of an earlier unpacking if every file still has its length; None otherwise."""
    try:
        listing = json.loads((home / LISTING).read_text(encoding="utf-8"))
        folder = home / str(listing["name"])
        same = all((folder / name).stat().st_size == size for name, size in listing["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return folder if same else None


def _make(path: Path, home: Path) -> Path:
    with replacing_folder(home) as partial:
        name = unpack_into(path, partial).name
        _list(partial, name)
    return home / name


def _name(path: Path, folder: Path) -> str:
    name = read_manifest(folder).model_name or archive_name(path)
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise InvalidArchive(
            f"{path}: {name[:100]!r} cannot be a model's name: use letters, digits, '_', '-' and '.', "
            f"{LONGEST_NAME} at most"
        )
    return name


def _list(home: Path, name: str) -> None:
    files = [path for path in (home / name).rglob("*") if path.is_file()]
    sizes = {path.relative_to(home / name).as_posix(): path.stat().st_size for path in sorted(files)}
    (home / LISTING).write_text(json.dumps({"name": name, "files": sizes}, indent=1), encoding="utf-8")
