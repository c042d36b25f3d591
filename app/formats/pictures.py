"""Collections of pictures: a zip or a folder, with one folder for every class."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class PictureSource:
    """The files of a zip or a folder.

    ``pictures`` are the relative names, sorted and with ``/``, of the files that look like pictures; hidden ones, and
    the doubles that macOS writes into zips, are left out. ``folders`` are all folders, those without pictures included.
    """

    path: Path
    pictures: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def open_pictures(path: Path) -> Iterator[PictureSource]:
    """Look into a zip or a folder of pictures.

    :raises DataError: where the path is neither; while reading, where the zip is damaged.
    """
    if path.is_dir():
        found = sorted(path.rglob("*"))
        names = [file.relative_to(path).as_posix() + ("/" if file.is_dir() else "") for file in found]
        yield _source(path, names, lambda name: (path / name).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is neither a folder nor a zip of pictures: {error}") from None
    with archive:
        yield _source(path, sorted(archive.namelist()), lambda name: _read_zipped(archive, name))


def by_class(source: PictureSource) -> dict[str, tuple[str, ...]]:
    """The pictures of a source with one folder a class: class -> names. Folders around those of the classes, such as
    the single one that most zips have at the top, are passed through; folders within a class belong to it.

    :raises DataError: where there are pictures beside the classes' folders, or no folder at all.
    """
    top, classes = _classes(source)
    loose = [name for name in source.pictures if PurePosixPath(name).parent == top]
    if loose:
        raise DataError(
            f"{source.path} has {len(loose)} pictures outside of any class's folder ({loose[0]}). "
            "Put the pictures of each class into a folder of its own."
        )
    if not classes:
        raise DataError(f"{source.path} has no folders. Put the pictures of each class into a folder of its own.")
    return {
        name: tuple(picture for picture in source.pictures if (top / name) in PurePosixPath(picture).parents)
        for name in classes
    }


def _source(path: Path, names: list[str], read: Callable[[str], bytes]) -> PictureSource:
    seen = [name for name in names if not any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)]
    files = [name for name in seen if not name.endswith("/")]
    pictures = tuple(name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES)
    parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    folders = parents | {name.rstrip("/") for name in seen if name.endswith("/")}
    return PictureSource(path, pictures, tuple(sorted(folders - {"."})), read)


def _read_zipped(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, or behind a password
        raise DataError(f"{archive.filename}: {name} cannot be read: {error}") from None


def _classes(source: PictureSource) -> tuple[PurePosixPath, list[str]]:
    """The folder that holds the classes' folders, and their names."""
    top, inside = PurePosixPath(), _folders_in(source, PurePosixPath())
    while len(inside) == 1 and (deeper := _folders_in(source, top / inside[0])):
        top, inside = top / inside[0], deeper
    return top, inside


def _folders_in(source: PictureSource, top: PurePosixPath) -> list[str]:
    return [PurePosixPath(name).name for name in source.folders if PurePosixPath(name).parent == top]
