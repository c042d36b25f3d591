"""Uploads of the page and their answers, stored for as long as the settings allow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import StorageError
from app.utils.files import atomic_write

ID = re.compile(r"[0-9a-f]{32}")
TAG = 16
RECORD_BYTES = 2**16
"""Maximum size of a record in bytes, with a margin."""
FEW = 200
"""Number of pictures up to which every upload sweeps the folder."""
SHARE = 16
"""Divisor of the limits for larger folders: they are swept after uploads of a sixteenth of the limits, or after a
minute."""
SWEEP_SECONDS = 60.0
RESOLUTION_NS = 5 * 10**7
"""Upper bound of the resolution of file systems' timestamps in nanoseconds, with a margin."""
OWN = 1000
"""Pictures of this process that are found without a scan of the folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredUpload:
    """A stored picture: its id, the file, its time in seconds since 1970, and its record. ``tag`` identifies the owner:
    see :func:`tag_of`."""

    id: str
    path: Path
    since: float
    tag: str
    record: dict[str, Any]


def tag_of(owner: str) -> str:
    """Return the tag of an owner for file names. It distinguishes owners, but does not prove ownership."""
    return hashlib.sha256(owner.encode()).hexdigest()[:TAG]


class Uploads:
    """A folder of pictures under unguessable ids, swept by age, number and total size.

    ``<id>.jpg`` is a picture, ``<id>.<tag>.json`` the record beside it. Several processes may use one folder at once:
    files are written atomically, and a file that another process has swept causes no error. An upload rarely scans the
    other pictures: see :meth:`sweep_regularly`.
    """

    def __init__(self, folder: Path, max_age: int, max_bytes: int, max_files: int = 10_000) -> None:
        """Create the store of a folder.

        :param max_age: in seconds; 0 stores nothing.
        :param max_bytes: maximum total size; 0 stores nothing.
        :param max_files: maximum number of pictures.
        """
        self._folder = folder
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._lock = threading.Lock()
        self._swept = _SweepResult()
        self._listed = _FolderListing()
        self._own: dict[str, list[str]] = {}

    @property
    def seconds(self) -> int:
        """Return the seconds for which a picture is stored; 0 if none is."""
        return self._max_age if self._max_bytes else 0

    def keeps(self, data: bytes) -> bool:
        """Return whether :meth:`keep` would store a picture; it does not on a full disk."""
        return bool(self._max_age) and len(data) <= self._max_bytes and self._has_space(len(data))

    def keep(self, data: bytes, suffix: str, owner: str = "", record: Mapping[str, Any] | None = None) -> str | None:
        """Store a picture.

        :param suffix: suffix of the file's name, such as ``.jpg``; chosen by the program, never by the client.
        :param owner: secret of the client.
        :param record: data about the picture, as JSON.
        :returns: its id, 128 random bits; None if it is not stored.
        :raises StorageError: if the folder cannot be written; nothing is stored.
        """
        if not self.keeps(data):
            return None
        identity = secrets.token_hex(16)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(identity + suffix, data)
            if record is not None:
                self._write(f"{identity}.{tag_of(owner)}.json", _encode(record))
        except OSError as error:
            (self._folder / (identity + suffix)).unlink(missing_ok=True)
            raise StorageError(self._folder, error.strerror or str(error)) from None
        with self._lock:
            self._own[identity] = [identity + suffix, f"{identity}.{tag_of(owner)}.json"]
            if len(self._own) > OWN:
                del self._own[next(iter(self._own))]
            self._swept.files += 1
            self._swept.bytes += len(data)
            due = (
                self._swept.left <= FEW
                or self._swept.files > self._max_files / SHARE
                or self._swept.bytes > self._max_bytes / SHARE
            )
        if due:
            self.sweep()
        return identity

    def note(self, upload: StoredUpload, record: Mapping[str, Any]) -> None:
        """Replace the record of a picture. Its lifetime does not change.

        :raises StorageError: if the folder cannot be written; the old record remains.
        """
        try:
            self._write(f"{upload.id}.{upload.tag}.json", _encode(record), upload.since)
        except OSError as error:
            raise StorageError(self._folder, error.strerror or str(error)) from None

    def find(self, identity: str) -> StoredUpload | None:
        """Return a picture that has a record, or None if it is not stored or has been removed."""
        return self._kept(identity) if ID.fullmatch(identity) else None

    def of(self, owner: str, most: int | None = None) -> list[StoredUpload]:
        """Return all pictures of an owner, the latest first, or only the latest ``most``."""
        tag, times = tag_of(owner), {}
        for identity in self._names().by_tag.get(tag, ()):
            with contextlib.suppress(OSError):  # swept meanwhile
                times[identity] = (self._folder / f"{identity}.{tag}.json").stat().st_mtime
        uploads = (self._kept(time) for time in sorted(times, key=lambda time: -times[time])[:most])
        return [upload for upload in uploads if upload]

    def count(self, owner: str) -> int:
        """Return the number of an owner's pictures, including expired ones."""
        return len(self._names().by_tag.get(tag_of(owner), ()))

    def delete(self, upload: StoredUpload) -> None:
        """Delete a picture and its record."""
        with self._lock:
            self._own.pop(upload.id, None)
        for name in self._names().by_id.get(upload.id, ()):
            (self._folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove expired pictures, then the oldest above the limits, and leftovers of killed processes."""
        now, total, count = time.time(), 0, 0
        for changed, size, names in sorted(self._listing(), key=lambda item: item[0], reverse=True):
            whole = not names[0].startswith(".")
            total, count = total + size * whole, count + whole
            if now - changed > self._max_age or (whole and (total > self._max_bytes or count > self._max_files)):
                for name in names:
                    (self._folder / name).unlink(missing_ok=True)
                count -= whole
        with self._lock:
            self._swept = _SweepResult(left=count)

    def sweep_regularly(self) -> None:
        """Sweep once a minute in a thread, so that pictures expire even without new uploads."""

        def run() -> None:
            while True:
                try:
                    self.sweep()
                except OSError as error:
                    if not isinstance(error, FileNotFoundError):  # the folder does not exist yet
                        log.warning("cannot sweep %s: %s", self._folder, error)
                time.sleep(SWEEP_SECONDS)

        threading.Thread(target=run, name="uploads", daemon=True).start()

    def _write(self, name: str, data: bytes, changed: float | None = None) -> None:
        atomic_write(self._folder / name, data, mode=0o600, modified=changed)

    def _has_space(self, size: int) -> bool:
        """Return whether the disk has room for a picture and its record. Later failures raise an error."""
        try:
            return shutil.disk_usage(self._folder).free >= size + RECORD_BYTES
        except OSError:  # the folder does not exist yet
            return True

    def _kept(self, identity: str) -> StoredUpload | None:
        names = self._own.get(identity) or self._names().by_id.get(identity) or []
        records = [name for name in names if name.endswith(".json")]
        pictures = [name for name in names if not name.endswith(".json")]
        if not records or not pictures:
            return None
        path = self._folder / records[0]
        try:
            since, record = path.stat().st_mtime, json.loads(path.read_bytes())
            (self._folder / pictures[0]).stat()
        except (OSError, ValueError):  # swept meanwhile
            return None
        if time.time() - since > self._max_age:
            return None
        return StoredUpload(identity, self._folder / pictures[0], since, records[0].split(".")[1], record)

    def _names(self) -> _FolderListing:
        """Return the names in the folder, rescanned only if they may have changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return _FolderListing()
        listed = self._listed
        # A second change within the clock's resolution would not show.
        if listed.changed != changed or time.time_ns() - changed < RESOLUTION_NS:
            listed = _FolderListing(changed)
            for name in os.listdir(self._folder):
                identity, _, rest = name.partition(".")
                if identity:
                    listed.by_id.setdefault(identity, []).append(name)
                    if rest.endswith(".json"):
                        listed.by_tag.setdefault(rest.removesuffix(".json"), []).append(identity)
            self._listed = listed
        return listed

    def _listing(self) -> list[tuple[float, int, list[str]]]:
        """Return the content of the folder: time, bytes and names of each picture with its record."""
        by_identity: dict[str, tuple[float, int, list[str]]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name == ".gitkeep":
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # swept by another process
                    continue
                key = entry.name if entry.name.startswith(".") else entry.name.partition(".")[0]
                changed, size, names = by_identity.get(key, (0.0, 0, []))
                by_identity[key] = (max(changed, status.st_mtime), size + status.st_size, [*names, entry.name])
        return list(by_identity.values())


@dataclass
class _SweepResult:
    """The pictures that the last sweep left, with the number and bytes of this process's later uploads."""

    left: int = 0
    files: int = 0
    bytes: int = 0


@dataclass
class _FolderListing:
    """The names of a folder at its last change: of each picture, and the ids of each owner's pictures."""

    changed: int = -1
    by_id: dict[str, list[str]] = field(default_factory=dict)
    by_tag: dict[str, list[str]] = field(default_factory=dict)


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
