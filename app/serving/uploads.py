"""Pictures sent through the page, with what was answered, kept for as long as the settings say."""

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
"""What a record takes, and then some."""
FEW = 200
"""Pictures that are looked at each time that another comes."""
SHARE = 16
"""Beyond them, what is too much goes when a sixteenth of what is allowed has come, or after a minute."""
SWEEP_SECONDS = 60.0
RESOLUTION_NS = 5 * 10**7
"""Of the times that file systems give, and then some."""
OWN = 1000
"""Pictures of this process that are found without a look at the folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredUpload:
    """A picture that is kept: its number, the file, the seconds since 1970 at which it came, and the record that was
    kept with it. ``tag`` tells whose it is: see :func:`tag_of`."""

    id: str
    path: Path
    since: float
    tag: str
    record: dict[str, Any]


def tag_of(owner: str) -> str:
    """Return what files say of their owner: enough to tell owners apart, and nothing that proves to be one."""
    return hashlib.sha256(owner.encode()).hexdigest()[:TAG]


class Uploads:
    """A folder of pictures under numbers that nobody can guess, swept by age, number and total size.

    ``<id>.jpg`` is a picture, ``<id>.<tag>.json`` the record beside it. Several processes may use one folder at once:
    files appear whole, and a file that another process has swept is not missed. A picture that is sent costs no look at
    the others, except now and then: see :meth:`sweep_regularly`.
    """

    def __init__(self, folder: Path, max_age: int, max_bytes: int, max_files: int = 10_000) -> None:
        """:param max_age: seconds; 0 keeps nothing. :param max_bytes: of all files together; 0 keeps nothing.
        :param max_files: most pictures."""
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
        """For how long a picture is kept; 0 where none is."""
        return self._max_age if self._max_bytes else 0

    def keeps(self, data: bytes) -> bool:
        """Return whether :meth:`keep` would keep a picture. Where the disk has no room it does not."""
        return bool(self._max_age) and len(data) <= self._max_bytes and self._has_space(len(data))

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
        """Keep another record with a picture. It does not live longer for it.

        :raises StorageError: where the folder cannot be written; the record is that of before then.
        """
        try:
            self._write(f"{upload.id}.{upload.tag}.json", _encode(record), upload.since)
        except OSError as error:
            raise StorageError(self._folder, error.strerror or str(error)) from None

    def find(self, identity: str) -> StoredUpload | None:
        """Return a picture that has a record; None where it is not kept, or not any more."""
        return self._kept(identity) if ID.fullmatch(identity) else None

    def of(self, owner: str, most: int | None = None) -> list[StoredUpload]:
        """Return everything of one owner, the latest first; only the latest where ``most`` says how many."""
        tag, times = tag_of(owner), {}
        for identity in self._names().by_tag.get(tag, ()):
            with contextlib.suppress(OSError):  # swept at this moment
                times[identity] = (self._folder / f"{identity}.{tag}.json").stat().st_mtime
        uploads = (self._kept(time) for time in sorted(times, key=lambda time: -times[time])[:most])
        return [upload for upload in uploads if upload]

    def count(self, owner: str) -> int:
        """Return how many pictures there are of one owner, with those that are about to be swept."""
        return len(self._names().by_tag.get(tag_of(owner), ()))

    def delete(self, upload: StoredUpload) -> None:
        """Forget a picture and its record."""
        with self._lock:
            self._own.pop(upload.id, None)
        for name in self._names().by_id.get(upload.id, ()):
            (self._folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is too old, then the oldest of what is too much; leavings of killed processes too."""
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
        """Sweep once a minute from now on, in a thread, so that nothing is kept longer because nobody sends more."""

        def run() -> None:
            while True:
                try:
                    self.sweep()
                except OSError as error:
                    if not isinstance(error, FileNotFoundError):  # of a folder that is still to be made
                        log.warning("cannot sweep %s: %s", self._folder, error)
                time.sleep(SWEEP_SECONDS)

        threading.Thread(target=run, name="uploads", daemon=True).start()

    def _write(self, name: str, data: bytes, changed: float | None = None) -> None:
        atomic_write(self._folder / name, data, mode=0o600, modified=changed)

    def _has_space(self, size: int) -> bool:
        """Return whether the disk has room for a picture and its record. What goes wrong later is an error."""
        try:
            return shutil.disk_usage(self._folder).free >= size + RECORD_BYTES
        except OSError:  # the folder is still to be made
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
        except (OSError, ValueError):  # swept at this moment
            return None
        if time.time() - since > self._max_age:
            return None
        return StoredUpload(identity, self._folder / pictures[0], since, records[0].split(".")[1], record)

    def _names(self) -> _FolderListing:
        """Return the names in the folder, read anew only if they may have changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return _FolderListing()
        listed = self._listed
        # another change within the clock's resolution would not show
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
        """Return what lies in the folder: time, bytes and names of each picture with its record."""
        by_identity: dict[str, tuple[float, int, list[str]]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name == ".gitkeep":
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # another process swept it
                    continue
                key = entry.name if entry.name.startswith(".") else entry.name.partition(".")[0]
                changed, size, names = by_identity.get(key, (0.0, 0, []))
                by_identity[key] = (max(changed, status.st_mtime), size + status.st_size, [*names, entry.name])
        return list(by_identity.values())


@dataclass
class _SweepResult:
    """Pictures that the last sweep left, and number and bytes of those that this process has kept since."""

    left: int = 0
    files: int = 0
    bytes: int = 0


@dataclass
class _FolderListing:
    """The names of a folder as it was when it changed: of each picture, and the numbers of each owner's pictures."""

    changed: int = -1
    by_id: dict[str, list[str]] = field(default_factory=dict)
    by_tag: dict[str, list[str]] = field(default_factory=dict)


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
