"""A model folder by its content: named by a hash, packed into one file, and checked wherever it arrives."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from app.digests import file_digest
from app.errors import ModelFormatError
from app.formats.archive.unpack import unpack
from app.utils.files import replacing, swap_folder

SUFFIX = ".zip"


def digest_of(folder: Path) -> str:
    """Name the content of a model folder: SHA-256 over the paths, lengths and hashes of its files, sorted by path.
    Hidden ones do not count.

    :returns: 64 hexadecimal digits.
    :raises ModelFormatError: where it cannot be read.
    """
    made = hashlib.sha256()
    try:
        for path in files_of(folder):
            name = path.relative_to(folder).as_posix()
            made.update(f"{name}\0{path.stat().st_size}\0{file_digest(path)}\n".encode())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be read: {error}") from None
    return made.hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a model folder that belong to the model, by path."""
    for path in sorted(folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix()):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def pack_folder(folder: Path, target: Path) -> None:
    """Put a model folder into one file, which appears when it is whole. Weights hardly shrink, so nothing is packed
    smaller.

    :raises ModelFormatError: where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(target) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
        ):
            for path in files_of(folder):
                archive.write(path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be put into {target}: {error}") from None


def unpack_checked(packed: Path, folder: Path, digest: str) -> None:
    """Unpack what was packed to ``folder``, which appears when its content is what was asked for.

    :raises ModelFormatError: where it is not, or cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack(packed, partial)
        found = digest_of(partial)
        if found != digest:
            raise ModelFormatError(
                f"{packed.name} holds the content {found[:16]}…, not {digest[:16]}…. Put the model there again"
            )
        swap_folder(partial, folder)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
