"""An archive in the models folder is unpacked once, and served like a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from uuid import uuid4

from app.digests import file_digest
from app.errors import InvalidArchive, ModelFormatError, of_system
from app.formats.archive.in_use import LOCK, hold
from app.formats.archive.limits import Limits
from app.formats.archive.manifest import NAME, read_manifest
from app.formats.archive.unpack import unpack
from app.lock import locked
from app.utils.files import replacing_folder

SUFFIXES = (".mar", ".model", ".tar.gz", ".tgz", ".zip")
LISTING = "files.json"
LONGEST_NAME = 200
"""Of a model. It becomes a folder's name, which may have 255 characters, and has more beside it."""


def is_archive(path: Path) -> bool:
    """Say whether a file is called like a model archive. Hidden ones are not: they may be half written."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()


def archive_name(path: Path) -> str:
    """What a model is called after its archive, where the manifest does not say: ``net_v1.1.mar`` is ``net_v1_1``."""
    lower = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    return re.sub(r"\W", "_", path.name[: len(path.name) - len(suffix)], flags=re.ASCII)


def open_archive(path: Path, work_dir: Path, limits: Limits | None = None) -> Path:
    """Unpack an archive where that is not done yet, and give the model folder: ``work_dir/SHA-256/NAME``.

    The folder is named by the archive's content, so a changed archive gets another; one that lost a file is made anew.
    Several processes may ask at once: one unpacks, the others wait. The folder is called as the manifest calls the
    model, else after the archive. :func:`app.formats.archive.in_use.remove_unused` spares it while this process lives.

    :raises InvalidArchive: where the archive cannot be used; in MMS's words, where its manifest cannot.
    :raises ModelFormatError: where ``work_dir`` cannot be written.
    """
    home = work_dir / _digest(path)
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with locked(work_dir / LOCK):
            found = _whole(home) or _make(path, home, limits)
            hold(home)
            return found
    except OSError as error:
        if problem := of_system(error):
            raise problem from None
        raise ModelFormatError(f"{home} cannot be written: {error.strerror or error}. Let Dimple write there") from None


def unpack_into(path: Path, parent: Path, limits: Limits | None = None) -> Path:
    """Unpack an archive into a folder of ``parent`` that is called as the manifest, else the archive, calls the model.

    :returns: the model folder.
    :raises InvalidArchive: where the archive cannot be used.
    :raises ModelFormatError: where the folder is there already, or cannot be written.
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
        return file_digest(path)
    except OSError as error:
        raise InvalidArchive(f"{path} cannot be read: {error.strerror}") from None


def _whole(home: Path) -> Path | None:
    """The model folder that was made before, if it still has every file in its length."""
    try:
        listing = json.loads((home / LISTING).read_text(encoding="utf-8"))
        folder = home / str(listing["name"])
        same = all((folder / name).stat().st_size == size for name, size in listing["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return folder if same else None


def _make(path: Path, home: Path, limits: Limits | None) -> Path:
    with replacing_folder(home) as partial:
        name = unpack_into(path, partial, limits).name
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
