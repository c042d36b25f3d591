"""Collections of pictures: a zip or a folder, with one folder for every class."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import DataError

MAX_BYTES = 256 * 2**20
"""The largest size in bytes of a picture in a zip: a few kilobytes may unpack to gigabytes."""
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff"}
SUFFIXES |= {".heic", ".heif"}


@dataclass(frozen=True)
class PictureSource:
    """The files of a zip or a folder.

    ``pictures`` are the relative names, sorted and with ``/``, of the files with a picture's suffix; hidden files, and
    the copies that macOS adds to zips, are left out. ``folders`` are all folders, including those without pictures.
    ``read`` returns a file's bytes. ``stamp`` returns a text that changes with the file: in a zip its length and CRC,
    in a folder its length and the time of its last change.
    """

    path: Path
    pictures: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]
    stamp: Callable[[str], str]


@contextmanager
def open_pictures(path: Path) -> Iterator[PictureSource]:
    """Open a zip or a folder of pictures.

    :raises DataError: if the path is neither; from ``read``, if a file is damaged or cannot be read.
    """
    if path.is_dir():
        names = [file.relative_to(path).as_posix() + ("/" if file.is_dir() else "") for file in path.rglob("*")]
        yield _source(path, names, lambda name: _read_file(path / name), lambda name: _file_stamp(path / name))
        return
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises its parsers' errors, of many types
        raise DataError(f"{path} is neither a folder nor a zip of pictures: {error}") from None
    with archive:
        yield _source(
            path, archive.namelist(), lambda name: _read_zipped(archive, name), lambda name: _zip_stamp(archive, name)
        )


def by_class(source: PictureSource) -> dict[str, tuple[str, ...]]:
    """Return the pictures of a source with one folder for each class: class -> names. Folders around the class folders,
    such as the single one at the top of most zips, are skipped; folders within a class belong to it.

    :raises DataError: if there are pictures beside the class folders, or no folder at all.
    """
    top, classes = _classes(source)
    if not classes:
        raise DataError(f"{source.path} has no folders. Put the pictures of each class into a separate folder.")
    folders = {top / name: name for name in classes}
    pictures: dict[str, list[str]] = {name: [] for name in classes}
    loose: list[str] = []
    for picture in source.pictures:
        inside = next((name for parent in PurePosixPath(picture).parents if (name := folders.get(parent))), None)
        (loose if inside is None else pictures[inside]).append(picture)
    if loose:
        raise DataError(
            f"{source.path} has {len(loose)} pictures outside of any class's folder ({loose[0]}). "
            "Put the pictures of each class into a separate folder."
        )
    return {name: tuple(inside) for name, inside in pictures.items()}


def _source(
    path: Path, names: Iterable[str], read: Callable[[str], bytes], stamp: Callable[[str], str]
) -> PictureSource:
    # Sorting whole names gives a zip and its folder the same order; the set drops names that a zip holds twice.
    ordered = sorted(set(names))
    seen = [n for n in ordered if not any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(n).parts)]
    files = [name for name in seen if not name.endswith("/")]
    pictures = tuple(name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES)
    parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    folders = parents | {name.rstrip("/") for name in seen if name.endswith("/")}
    return PictureSource(path, pictures, tuple(sorted(folders - {"."})), read, stamp)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _file_stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:  # a broken link
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"


def _read_zipped(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            content = file.read(MAX_BYTES + 1)
    except Exception as error:  # damaged or encrypted: zipfile raises its decompressors' errors
        raise DataError(f"{archive.filename}: {name} cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{archive.filename}: {name} is longer than {MAX_BYTES:,} bytes; no picture is")
    return content


def _zip_stamp(archive: zipfile.ZipFile, name: str) -> str:
    entry = archive.getinfo(name)
    return f"{entry.file_size} {entry.CRC:08x}"


def _classes(source: PictureSource) -> tuple[PurePosixPath, list[str]]:
    """Return the folder that holds the class folders, and their names."""
    top, inside = PurePosixPath(), _folders_in(source, PurePosixPath())
    while len(inside) == 1 and (deeper := _folders_in(source, top / inside[0])):
        top, inside = top / inside[0], deeper
    return top, inside


def _folders_in(source: PictureSource, top: PurePosixPath) -> list[str]:
    return [PurePosixPath(name).name for name in source.folders if PurePosixPath(name).parent == top]
