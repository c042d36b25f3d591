"""Projects in which people teach a model: a name, classes, and their pictures.

``<folder>/<id>/project.json`` has the name. ``pictures/<class>/<picture>`` are the pictures, in the layout that
``dimple models train`` reads, each named after the hash of its content; ``small/`` has a thumbnail of each. Several
processes may use a project at once: a file is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import BadInput, BadParameter, EmptyFile, ProjectNotFound, StorageError
from app.formats.folder import check_own_name
from app.formats.pictures import SUFFIXES, open_pictures
from app.serving.feedback import folder_name
from app.serving.pipeline import open_picture
from app.serving.rendering import jpeg
from app.settings import PictureLimits
from app.utils.files import atomic_write, file_sizes
from app.utils.json import read_object

ID = re.compile(r"[0-9a-f]{12}")
PICTURE = re.compile(r"[0-9a-f]{32}\.[a-z]{3,4}")
LONGEST_LABEL = 150
LEAST = 5
"""Fewest pictures of a class that can be trained on."""
ENOUGH = 10
"""Number of pictures of a class from which on there is no warning."""
MOST_PROJECTS = 100
MOST_CLASSES = 100
MOST_PICTURES = 5_000
MOST_BYTES = 2**30
"""Limit on a project's pictures, in bytes."""
SMALL_SIDE = 192


@dataclass(frozen=True)
class TaughtClass:
    """A class with the names of its pictures, the latest first."""

    label: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """Near-identical pictures: the labels of their classes, each once, and the pictures with their labels."""

    labels: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]


class Project:
    """One project. Its methods may be called from any thread and process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._size: tuple[int, int] | None = None  # number and bytes of the pictures; None until they are counted

    @property
    def id(self) -> str:
        """Return the id, which is the folder's name."""
        return self.folder.name

    @property
    def name(self) -> str:
        return str(self._facts().get("name", ""))

    @property
    def pictures_dir(self) -> Path:
        """Return the folder with one folder for each class."""
        return self.folder / "pictures"

    def classes(self) -> list[TaughtClass]:
        """Return the classes by label."""
        return [TaughtClass(path.name, _latest_first(path)) for path in _folders(self.pictures_dir)]

    def add_class(self, label: str) -> str:
        """Create a class without pictures; an existing class stays as it is.

        :raises BadParameter: if the label cannot be used.
        :raises BadInput: if there are too many classes.
        """
        label = class_label(label)
        if not (self.pictures_dir / label).is_dir() and len(_folders(self.pictures_dir)) >= MOST_CLASSES:
            raise BadInput(f"There are {MOST_CLASSES} classes already, the most that can be taught here.")
        with _storing(self.pictures_dir):
            (self.pictures_dir / label).mkdir(parents=True, exist_ok=True)
        return label

    def rename_class(self, label: str, new: str) -> None:
        """Give a class another label.

        :raises BadParameter: if there is no such class, or the new label cannot be used or is taken.
        """
        folder, new = self._class_dir(label), class_label(new)
        if new == folder.name:
            return
        if (self.pictures_dir / new).exists():
            raise BadParameter("label", new, "another one: there is a class of this name")
        folder.rename(self.pictures_dir / new)

    def remove_class(self, label: str) -> None:
        """Remove a class with its pictures.

        :raises BadParameter: if there is no such class.
        """
        folder, self._size = self._class_dir(label), None
        for path in folder.iterdir():
            self._forget(path.name)
        shutil.rmtree(folder)

    def add(self, label: str, data: bytes, limits: PictureLimits) -> bool:
        """Add a picture to a class.

        :returns: whether it was added; False if the class has the same picture.
        :raises BadInput: if it is not a picture, or is too large, or the project is full.
        """
        folder = self._class_dir(label)
        if not data:
            raise EmptyFile()
        from app.vision.duplicates import thumbnail

        small = self.folder / "small"
        with open_picture(data, limits) as picture, _storing(folder):
            name = hashlib.sha256(data).hexdigest()[:32] + picture.suffix
            if (folder / name).exists():
                return False
            self._reserve(len(data))
            small.mkdir(exist_ok=True)
            atomic_write(small / f"{name}.jpg", jpeg(picture.image, SMALL_SIDE), mode=0o600)
            atomic_write(small / f"{name}.grey", thumbnail(picture.image).tobytes(), mode=0o600)
            atomic_write(folder / name, data, mode=0o600)
        return True

    def remove(self, label: str, picture: str) -> None:
        """Remove a picture from a class; nothing happens if it is not there."""
        folder, self._size = self._class_dir(label), None
        if PICTURE.fullmatch(picture):
            (folder / picture).unlink(missing_ok=True)
            self._forget(picture)

    def move(self, label: str, picture: str, to: str) -> None:
        """Move a picture to another class.

        :raises BadParameter: if there is no such class.
        """
        source, target = self._class_dir(label), self._class_dir(to)
        if PICTURE.fullmatch(picture):
            with contextlib.suppress(FileNotFoundError):
                (source / picture).rename(target / picture)

    def thumbnail(self, picture: str) -> bytes | None:
        """Return the thumbnail of a picture as a JPEG; None if there is no such picture."""
        if not PICTURE.fullmatch(picture):
            return None
        with contextlib.suppress(OSError):
            return (self.folder / "small" / f"{picture}.jpg").read_bytes()
        return None

    def duplicates(self) -> list[Duplicates]:
        """Return the groups of near-identical pictures, those in several classes first."""
        from app.vision.duplicates import SIDE, near_identical

        found, rows = [], []
        for kind in self.classes():
            for picture in kind.pictures:
                with contextlib.suppress(OSError, ValueError):
                    grey = np.frombuffer((self.folder / "small" / f"{picture}.grey").read_bytes(), np.uint8)
                    rows.append(grey.reshape(SIDE, SIDE))
                    found.append((picture, kind.label))
        groups = near_identical(np.stack(rows)) if len(rows) > 1 else ()
        all_of = [tuple(found[member] for member in group) for group in groups]
        duplicates = [Duplicates(tuple(dict.fromkeys(label for _, label in group)), group) for group in all_of]
        return sorted(duplicates, key=lambda group: -len(group.labels))

    def note(self, **facts: Any) -> None:
        """Store facts of the project beside those that it has."""
        with _storing(self.folder):
            atomic_write(self.folder / "project.json", json.dumps({**self._facts(), **facts}, ensure_ascii=False))

    def fact(self, key: str) -> Any:
        """Return a stored fact, or None."""
        return self._facts().get(key)

    def _facts(self) -> dict[str, Any]:
        return read_object(self.folder / "project.json")

    def _class_dir(self, label: str) -> Path:
        folder = self.pictures_dir / class_label(label)
        if not folder.is_dir():
            raise BadParameter("class", label, "one of the project's classes")
        return folder

    def _reserve(self, more: int) -> None:
        """Count one more picture. This object counts the files once: a request may add thousands of pictures."""
        if self._size is None:
            sizes = file_sizes(path for folder in _folders(self.pictures_dir) for path in folder.iterdir())
            self._size = len(sizes), sum(sizes)
        count, size = self._size
        if count >= MOST_PICTURES or size + more > MOST_BYTES:
            raise BadInput(
                f"A project can hold {MOST_PICTURES:,} pictures of {MOST_BYTES / 2**20:,.0f} MB in total. Remove some, "
                "or train with: dimple models train NAME FOLDER"
            )
        self._size = count + 1, size + more

    def _forget(self, picture: str) -> None:
        """Remove a picture's thumbnails, unless another class has the same picture."""
        if not any((folder / picture).exists() for folder in _folders(self.pictures_dir)):
            for suffix in (".jpg", ".grey"):
                (self.folder / "small" / f"{picture}{suffix}").unlink(missing_ok=True)


class Projects:
    """All projects of a server, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Project]:
        """Return the projects, the latest first."""
        times: dict[Path, float] = {}
        for path in _folders(self._folder):
            with contextlib.suppress(OSError):  # no project, or deleted meanwhile
                times[path] = (path / "project.json").stat().st_mtime
        return [Project(path) for path in sorted(times, key=lambda path: -times[path])]

    def get(self, identity: str) -> Project:
        """Return a project.

        :raises ProjectNotFound: if there is none with this id.
        """
        if not ID.fullmatch(identity) or not (self._folder / identity / "project.json").is_file():
            raise ProjectNotFound(identity)
        return Project(self._folder / identity)

    def of_model(self, name: str) -> Project | None:
        """Return the latest project that teaches a model of this name; None if there is none."""
        return next((project for project in self.all() if project.name == name), None)

    def create(self, name: str, labels: list[str], is_taken: bool = False) -> Project:
        """Create a project.

        :raises BadParameter: if the name or a label cannot be used, or a model or another project has the name.
        :raises BadInput: if there are too many projects.
        """
        check_own_name(name, "name")
        if is_taken or self.of_model(name) is not None:
            raise BadParameter("name", name, "another one: there is a model or a project of this name")
        labels = [class_label(label) for label in labels]
        if len(self.all()) >= MOST_PROJECTS:
            raise BadInput(f"There are {MOST_PROJECTS} projects already. Delete one that is no longer needed.")
        project = Project(self._folder / secrets.token_hex(6))
        with _storing(self._folder):
            project.pictures_dir.mkdir(parents=True)
        for label in labels:
            project.add_class(label)
        project.note(name=name)
        return project

    def delete(self, project: Project) -> None:
        """Delete a project with its pictures. Models that were made of it stay."""
        shutil.rmtree(project.folder, ignore_errors=True)


def class_label(text: str) -> str:
    """Return a class's label as its folder is named.

    :raises BadParameter: if it is empty or too long, or has characters that are not printed.
    """
    label = unicodedata.normalize("NFC", text).strip()
    if not label or not label.isprintable() or len(label) > LONGEST_LABEL:
        raise BadParameter("class", text, f"a name of 1 to {LONGEST_LABEL} printable characters")
    return folder_name(label)


def zipped_pictures(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield the pictures of a zip: the name of the folder that each is in, empty if none, its own name, and its bytes.

    :raises DataError: if it is not a zip, or one of its files cannot be read.
    """
    with open_pictures(path) as source:
        for name in source.pictures[:MOST_PICTURES]:
            yield Path(name).parent.name, name, source.read(name)


@contextlib.contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(folder.name, error.strerror or str(error)) from None


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _latest_first(folder: Path) -> tuple[str, ...]:
    times = {}
    for path in folder.iterdir():
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            with contextlib.suppress(OSError):
                times[path.name] = path.stat().st_mtime_ns
    return tuple(sorted(times, key=lambda name: (-times[name], name)))
