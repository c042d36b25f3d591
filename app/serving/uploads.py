"""Pictures sent through the page, kept for as long as the settings say."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path


class Uploads:
    """A folder of pictures named after their content, swept by age and by total size.

    Several processes may use one folder at once: files appear whole, and a file that another process has swept is not
    missed.
    """

    def __init__(self, folder: Path, max_age: int, max_bytes: int) -> None:
        """:param max_age: seconds; 0 keeps nothing. :param max_bytes: of all files together; 0 keeps nothing."""
        self._folder = folder
        self._max_age = max_age
        self._max_bytes = max_bytes

    def keep(self, data: bytes, suffix: str) -> str | None:
        """Keep a picture.

        :param suffix: of the file's name, such as ``.jpg``; chosen by the program, never by the client.
        :returns: the file's name, or None where it is not kept.
        """
        if not self._max_age or len(data) > self._max_bytes:
            return None
        name = hashlib.sha256(data).hexdigest()[:32] + suffix
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, self._folder / name)
        self.sweep()
        return name

    def sweep(self) -> None:
        """Remove what is too old, then the oldest of what is too much; leavings of killed processes too."""
        now = time.time()
        kept = 0
        for changed, size, path in sorted(self._listing(), reverse=True):
            whole = not path.name.startswith(".")
            kept += size if whole else 0
            if now - changed > self._max_age or (whole and kept > self._max_bytes):
                path.unlink(missing_ok=True)

    def _listing(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._folder.iterdir():
            if path.name == ".gitkeep":
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # another process swept it
                continue
            found.append((status.st_mtime, status.st_size, path))
        return found
