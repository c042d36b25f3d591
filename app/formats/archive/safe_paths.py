"""Validation of the untrusted names in an archive."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from app.errors import InvalidArchive

MAX_CHARACTERS = 1024
MAX_PART_BYTES = 255
DRIVE = re.compile(r"[A-Za-z]:")
JUNK = "__MACOSX"
"""The folder that macOS adds to its zips; it belongs to no model."""


class PathRegistry:
    """A registry of an archive's paths: each inside the folder, and no two equal on any file system."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def claim(self, name: str, is_folder: bool) -> PurePosixPath | None:
        """Check an entry's name and reserve its path.

        :returns: the path relative to the folder; None for an entry that needs no path: the folder itself, or junk.
        :raises InvalidArchive: if the name leads outside or holds forbidden characters, or the path is taken.
        """
        path = _check_name(name)
        if not path.parts or path.parts[0] == JUNK:
            return None
        for parent in path.parents[:-1]:
            self._take_folder(parent)
        if is_folder:
            self._take_folder(path)
        else:
            self._take_file(path)
        return path

    def _take_folder(self, path: PurePosixPath) -> None:
        """Reserve a folder, which may occur often but in one spelling."""
        key = _key(path)
        other = self._folders.setdefault(key, str(path))
        if key in self._files or other != str(path):
            raise _collision(path, self._files.get(key, other))

    def _take_file(self, path: PurePosixPath) -> None:
        key = _key(path)
        other = self._files.get(key, self._folders.get(key))
        if other is not None:
            raise _collision(path, other)
        self._files[key] = str(path)


def _key(path: PurePosixPath) -> str:
    """Return a key that is equal for paths that coincide on file systems blind to case or accents' composition."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _collision(path: PurePosixPath, other: str) -> InvalidArchive:
    return InvalidArchive(f"its entries {str(path)!r} and {other!r} fall on one path")


def _check_name(name: str) -> PurePosixPath:
    wrong = _fault(name)
    if wrong:
        raise InvalidArchive(f"its entry {name[:200]!r} {wrong}")
    return PurePosixPath(name)


def _fault(name: str) -> str:
    """Return the defect of a name; empty if there is none."""
    if not name:
        return "has no name"
    if len(name) > MAX_CHARACTERS:
        return f"has a name of {len(name):,} characters; at most {MAX_CHARACTERS:,} are allowed"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "has characters in its name that no name should have"
    if "\\" in name:
        return "has a backslash in its name, which some systems take for a folder's"
    if name.startswith("/") or DRIVE.match(name):
        return "has an absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "leads outside of the archive"
    if max(len(part.encode()) for part in parts) > MAX_PART_BYTES:
        return f"has a name of more than {MAX_PART_BYTES} bytes"
    return ""
