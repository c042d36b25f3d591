"""Pictures sent through the page, with what was answered, kept for as long as the settings say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import StorageError

ID = re.compile(r"[0-9a-f]{32}")
TAG = 16
RECORD_BYTES = 2**16
"""What a record takes, and then some."""


@dataclass(frozen=True)
class Kept:
    """A picture that is kept: its number, the file, the seconds since 1970 at which it came, and the record that was
    kept with it. ``tag`` tells whose it is: see :func:`tag_of`."""

    id: str
    path: Path
    since: float
    tag: str
    record: dict[str, Any]


def tag_of(owner: str) -> str:
    """What files say of their owner: enough to tell owners apart, and nothing that proves to be one."""
    return hashlib.sha256(owner.encode()).hexdigest()[:TAG]


class Uploads:
    """A folder of pictures under numbers that nobody can guess, swept by age and by total size.

    ``<id>.jpg`` is a picture, ``<id>.<tag>.json`` the record beside it. Several processes may use one folder at once:
    files appear whole, and a file that another process has swept is not missed.
    """

    def __init__(self, folder: Path, max_age: int, max_bytes: int) -> None:
        """:param max_age: seconds; 0 keeps nothing. :param max_bytes: of all files together; 0 keeps nothing."""
        self._folder = folder
        self._max_age = max_age
        self._max_bytes = max_bytes

    @property
    def seconds(self) -> int:
        """For how long a picture is kept; 0 where none is."""
        return self._max_age if self._max_bytes else 0

    def keeps(self, data: bytes) -> bool:
        """Whether :meth:`keep` would keep a picture. Where the disk has no room it does not."""
        return bool(self._max_age) and len(data) <= self._max_bytes and self._has_room(len(data))

    def keep(self, data: bytes, suffix: str, owner: str = "", record: Mapping[str, Any] | None = None) -> str | None:
        """Keep a picture.

        :param suffix: of the file's name, such as ``.jpg``; chosen by the program, never by the client.
        :param owner: the secret of whoever sent it.
        :param record: what is known of it, as JSON.
        :returns: its id, 128 random bits; None where it is not kept.
        :raises StorageError: where the folder cannot be written; nothing is kept then.
        """
        if not self.keeps(data):
            return None
        identity = secrets.token_hex(16)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(identity + suffix, data)
            if record is not None:
                self._write(f"{identity}.{tag_of(owner)}.json", _encoded(record))
        except OSError as error:
            (self._folder / (identity + suffix)).unlink(missing_ok=True)
            raise StorageError(self._folder, error.strerror or str(error)) from None
        self.sweep()
        return identity

    def note(self, kept: Kept, record: Mapping[str, Any]) -> None:
        """Keep another record with a picture. It does not live longer for it.

        :raises StorageError: where the folder cannot be written; the record is that of before then.
        """
        try:
            self._write(f"{kept.id}.{kept.tag}.json", _encoded(record), kept.since)
        except OSError as error:
            raise StorageError(self._folder, error.strerror or str(error)) from None

    def find(self, identity: str) -> Kept | None:
        """A picture that has a record; None where it is not kept, or not any more."""
        if not ID.fullmatch(identity):
            return None
        found = list(self._folder.glob(f"{identity}.*.json"))
        return self._kept(found[0]) if found else None

    def of(self, owner: str) -> list[Kept]:
        """Everything of one owner, the latest first."""
        found = (self._kept(path) for path in self._folder.glob(f"*.{tag_of(owner)}.json") if path.name[0] != ".")
        return sorted((kept for kept in found if kept), key=lambda kept: -kept.since)

    def delete(self, kept: Kept) -> None:
        """Forget a picture and its record."""
        for path in self._folder.glob(f"{kept.id}.*"):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is too old, then the oldest of what is too much; leavings of killed processes too."""
        now, total = time.time(), 0
        for changed, size, paths in sorted(self._listing(), key=lambda one: one[0], reverse=True):
            whole = not paths[0].name.startswith(".")
            total += size if whole else 0
            if now - changed > self._max_age or (whole and total > self._max_bytes):
                for path in paths:
                    path.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes, changed: float | None = None) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            if changed is not None:
                os.utime(temporary, (changed, changed))
            os.replace(temporary, self._folder / name)
        except OSError:
            os.unlink(temporary)  # on a disk that is full, of all places
            raise

    def _has_room(self, size: int) -> bool:
        """Whether the disk has room for a picture and its record. What goes wrong later is an error."""
        try:
            return shutil.disk_usage(self._folder).free >= size + RECORD_BYTES
        except OSError:  # the folder is still to be made
            return True

    def _kept(self, path: Path) -> Kept | None:
        identity, tag, _ = path.name.split(".")
        try:
            since, record = path.stat().st_mtime, json.loads(path.read_bytes())
        except (OSError, ValueError):  # swept at this moment
            return None
        pictures = [one for one in self._folder.glob(f"{identity}.*") if one.suffix != ".json"]
        if not pictures or time.time() - since > self._max_age:
            return None
        return Kept(identity, pictures[0], since, tag, record)

    def _listing(self) -> list[tuple[float, int, list[Path]]]:
        """What lies in the folder: time, bytes and files of each picture with its record."""
        found: dict[str, tuple[float, int, list[Path]]] = {}
        for path in self._folder.iterdir():
            if path.name == ".gitkeep":
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # another process swept it
                continue
            key = path.name if path.name.startswith(".") else path.name.partition(".")[0]
            changed, size, paths = found.get(key, (0.0, 0, []))
            found[key] = (max(changed, status.st_mtime), size + status.st_size, [*paths, path])
        return list(found.values())


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
