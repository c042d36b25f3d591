"""Corrected answers, stored as pictures for training: ``<folder>/<model>/<label>/<picture>``.

``dimple models train`` reads this layout, with one folder for each class.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from app.errors import BadInput
from app.utils.files import atomic_write, file_sizes

LONGEST = 200
"""Maximum length of a folder's name in bytes; file systems allow 255."""
STAND_INS = {"/": "\u2215", "\\": "\u2216", "\0": ""}
"""Characters that folder names cannot contain, with lookalikes."""

SECONDS = 60.0
"""Seconds for which the total size of the corrections is cached; pictures that are removed meanwhile still count."""
_sizes: dict[Path, tuple[float, int]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Correction:
    """A corrected picture.

    :param label: the class's folder name.
    :param since: time in seconds since 1970.
    """

    model: str
    label: str
    path: Path
    since: float


class FeedbackStore:
    """A folder of corrected pictures. They stay until somebody removes them, so their total size is limited."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """:param max_bytes: maximum total size in bytes."""
        self._folder = folder
        self._max_bytes = max_bytes

    def keep(self, model: str, label: str, name: str, data: bytes) -> Path:
        """Store a picture under a class, in place of its earlier correction.

        :raises BadInput: if the size limit is reached.
        """
        if self._size(len(data)) > self._max_bytes:
            raise BadInput(
                f"No more corrections can be stored: {self._folder} may hold {self._max_bytes:,} bytes. Train with "
                "what is there, and take it away."
            )
        self.forget(model, name)
        path = self._folder / model / folder_name(label) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data, mode=0o600)
        return path

    def forget(self, model: str, name: str) -> None:
        """Remove a picture under any class, and then the folder of a class without pictures.

        :param name: name of its file, with ``*`` as a wildcard.
        """
        for path in (self._folder / model).glob(f"*/{name}"):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder is not empty
                path.parent.rmdir()

    def of(self, name: str) -> list[Correction]:
        """Return the corrections whose files have a name, the latest first.

        :param name: name of a file, with ``*`` as a wildcard.
        """
        found = []
        for path in self._folder.glob(f"*/*/{name}"):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.append(Correction(path.parts[-3], path.parts[-2], path, path.stat().st_mtime))
        return sorted(found, key=lambda item: (-item.since, item.path))

    def count(self, model: str) -> int:
        """Return the number of a model's corrections."""
        return sum(1 for _ in (self._folder / model).glob("*/*.*"))

    def _size(self, more: int) -> int:
        """Return the bytes of all corrections and one more. The folder is scanned once a minute."""
        with _lock:
            until, size = _sizes.get(self._folder, (0.0, 0))
            if time.monotonic() > until:
                size = sum(file_sizes(self._folder.rglob("*")))
                until = time.monotonic() + SECONDS
            if size + more <= self._max_bytes:
                _sizes[self._folder] = until, size + more
            return size + more


def stored_corrections(folder: Path) -> list[tuple[str, Path]]:
    """Return the corrections of a model: the folder's name of the label, and the picture.

    :param folder: the model's folder in that of all corrections.
    """
    return [(path.parent.name, path) for path in sorted(folder.glob("*/*")) if not path.name.startswith(".")]


def folder_name(label: str) -> str:
    """Return a label as a folder name that looks the same: never a path, never hidden, never too long."""
    for character, instead in STAND_INS.items():
        label = label.replace(character, instead)
    label = "".join(character for character in label if character.isprintable()).strip() or "_"
    if label.startswith("."):
        label = "_" + label
    return label.encode()[:LONGEST].decode(errors="ignore")
