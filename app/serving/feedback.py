"""Answers that somebody has put right, kept as pictures to train on: ``<folder>/<model>/<label>/<picture>``.

That is what ``dimple models train`` takes: one folder for each class.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from app.errors import BadInput
from app.utils.files import atomic_write

LONGEST = 200
"""Bytes of a folder's name, of the 255 that file systems have."""
STAND_INS = {"/": "\u2215", "\\": "\u2216", "\0": ""}
"""Characters that no folder's name may have, and what looks like them."""

SECONDS = 60.0
"""For which the size of all corrections is remembered; what is removed meanwhile still counts."""
_sizes: dict[Path, tuple[float, int]] = {}
_lock = threading.Lock()


class FeedbackStore:
    """Corrected pictures. They stay until somebody takes them away, so their bytes are limited."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """:param max_bytes: of all of them together."""
        self._folder = folder
        self._max_bytes = max_bytes

    def keep(self, model: str, label: str, name: str, data: bytes) -> Path:
        """Keep a picture as one of a class, in place of what was said of it before.

        :param name: of the file, chosen by the program.
        :returns: its path.
        :raises BadInput: where there is no room left.
        """
        if self._size(len(data)) > self._max_bytes:
            raise BadInput(
                f"There is no room for more corrections: {self._folder} may hold {self._max_bytes:,} bytes. Train with "
                "what is there, and take it away."
            )
        self.forget(model, name)
        path = self._folder / model / folder_name(label) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data, mode=0o600)
        return path

    def forget(self, model: str, name: str) -> None:
        """Take a picture back, whatever it was said to be; a class that has none left goes, too.

        :param name: of its file; ``*`` in it stands for anything.
        """
        for path in (self._folder / model).glob(f"*/{name}"):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has others
                path.parent.rmdir()

    def _size(self, more: int) -> int:
        """Return the bytes of all corrections and of one more. All of them are looked at once a minute."""
        with _lock:
            until, size = _sizes.get(self._folder, (0.0, 0))
            if time.monotonic() > until:
                size = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
                until = time.monotonic() + SECONDS
            if size + more <= self._max_bytes:
                _sizes[self._folder] = until, size + more
            return size + more


def folder_name(label: str) -> str:
    """Return a label as the name of a folder that reads the same: never a path, never hidden, never too long."""
    for character, instead in STAND_INS.items():
        label = label.replace(character, instead)
    label = "".join(character for character in label if character.isprintable()).strip() or "_"
    if label.startswith("."):
        label = "_" + label
    return label.encode()[:LONGEST].decode(errors="ignore")
