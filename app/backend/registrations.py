"""The registrations, in one file that outlives every process: ``instance/registry.json``.

The backend process writes the file, with its previous content beside it; the other processes read it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from app.errors import RegistryBusy, StorageError
from app.utils.files import atomic_write

LOCK_SECONDS = 5.0
"""Seconds that a change waits for a lock of another program."""
PAUSE_SECONDS = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registration:
    """The configuration of a served model. The defaults are Multi Model Server's.

    :param url: the client's URL.
    :param path: the model folder.
    :param max_batch_delay: in milliseconds.
    :param response_timeout: in seconds.
    :param removed: whether a model was unregistered that the next start would otherwise load again.
    :param generation: number of this registration, unique among earlier and later registrations of any name; scaling
        does not change it.
    :param at_startup: whether the model is loaded because it is in the settings or the models folder.
    :param changed: whether it was registered or scaled through management; a start does not modify it.
    :param failure: reason why a model of the start cannot be found; empty if it was found.
    """

    name: str
    url: str
    path: str
    handler: str = ""
    runtime: str = "python"
    batch_size: int = 1
    max_batch_delay: int = 100
    min_workers: int = 0
    max_workers: int = 0
    response_timeout: float = 120.0
    removed: bool = False
    generation: int = 0
    at_startup: bool = False
    changed: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Registrations:
    """All registrations by name, and the next unused generation."""

    models: dict[str, Registration] = field(default_factory=dict)
    next_generation: int = 1


class RegistrationFile:
    """The file of registrations.

    :param folder: the instance folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "registry.json"
        self._copy = folder / "registry.json.bak"
        self._lock = folder / "registry.lock"
        self._old = folder / "registry.sqlite3"
        self._state: tuple[int, int, int] | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file against changes by other processes.

        :raises RegistryBusy: if another program holds the lock for longer than :data:`LOCK_SECONDS`.
        :raises StorageError: if the folder cannot be written.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            file = self._lock.open("w")
        except OSError as error:
            raise StorageError(self._lock, error.strerror or str(error)) from None
        with file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RegistryBusy(self._lock) from None
                    time.sleep(PAUSE_SECONDS)
            yield

    def is_changed(self) -> bool:
        """Return whether the file was replaced since this object's last read or write."""
        return self._stat() != self._state

    def read(self) -> Registrations:
        """Read the file.

        :raises ValueError: if it is damaged.
        :raises OSError: if it is missing or cannot be read.
        """
        state = self._stat()
        registrations = _parse(self.path.read_bytes())
        self._state = state
        return registrations

    def recover(self) -> Registrations:
        """Read the file at the start of a server. If it is damaged or missing, read its copy; if both are missing, read
        the SQLite file of earlier versions. The caller holds the lock.

        :raises StorageError: if the folder cannot be read or written.
        """
        for partial in self.path.parent.glob(".registry.json.*.part"):  # left by a killed process
            partial.unlink(missing_ok=True)
        try:
            return self.read()
        except FileNotFoundError:
            reason = "is missing"
        except ValueError as error:
            aside = self.path.with_name(f"{self.path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
            reason = f"is damaged ({error}), and kept as {aside}" if self.path.stat().st_size else "is empty"
            os.replace(self.path, aside)
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from None
        try:
            registrations = _parse(self._copy.read_bytes())
            log.error("%s %s; what was registered is taken from %s", self.path, reason, self._copy)
        except (OSError, ValueError):
            registrations = self._migrated()
            if reason != "is missing":
                log.error("%s %s; nothing is registered", self.path, reason)
        return registrations

    def write(self, registrations: Registrations) -> None:
        """Replace the file durably: it survives a crash of the machine after this returns. The caller holds the lock.

        :raises StorageError: if it cannot be written; the old file remains.
        """
        models = [_without_defaults(model) for _, model in sorted(registrations.models.items())]
        document = {"next_generation": registrations.next_generation, "models": models}
        text = json.dumps(document, indent=1) + "\n"
        try:
            atomic_write(self.path, text, sync=True)
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from None
        self._state = self._stat()
        try:
            atomic_write(self._copy, text)
        except OSError as error:
            log.warning("%s cannot be brought up to date: %s", self._copy, error)

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _migrated(self) -> Registrations:
        """Return the registrations of an earlier version, from ``registry.sqlite3`` or the copy beside it."""
        for path in (self._old, self._old.with_name(f"{self._old.name}.bak")):
            if not path.is_file():
                continue
            try:
                rows = _read_sqlite(path)
            except sqlite3.Error as error:
                log.error("%s cannot be read: %s", path, error)
                continue
            log.info("%d registrations are taken from %s", len(rows), path)
            models = {row.name: row for row in rows}
            return Registrations(models, len(rows) + 1)
        return Registrations()


def read_registrations(folder: Path) -> Registrations:
    """Read the registrations for programs that change nothing; a damaged or missing file has none.

    :param folder: the instance folder.
    :raises StorageError: if the file cannot be read.
    """
    file = RegistrationFile(folder)
    with file.locked():
        return file.recover()


def _parse(data: bytes) -> Registrations:
    try:
        document = json.loads(data)
        models = {item["name"]: Registration(**item) for item in document["models"]}
        return Registrations(models, int(document["next_generation"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is not what the server writes: {error!r}") from None


def _without_defaults(registration: Registration) -> dict[str, object]:
    """Return the fields that differ from the defaults."""
    defaults = {field.name: field.default for field in fields(Registration)}
    return {name: value for name, value in asdict(registration).items() if value != defaults[name]}


def _read_sqlite(path: Path) -> list[Registration]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM models ORDER BY name")]
    return [
        Registration(**{**row, "removed": bool(row["removed"]), "generation": number, "changed": True})
        for number, row in enumerate(rows, 1)
    ]
