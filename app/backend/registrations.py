"""What is registered, in one file that outlives every process: ``instance/registry.json``.

The backend process writes it, with its earlier content beside it; the other processes read it.
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
"""How long a change waits for another program that holds the lock."""
PAUSE_SECONDS = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registration:
    """How a model is to be served. The defaults are Multi Model Server's.

    :param url: what the client gave.
    :param path: the model folder.
    :param max_batch_delay: in milliseconds.
    :param response_timeout: in seconds.
    :param removed: whether a model that the next start would load again was unregistered.
    :param generation: number of this registration. No other has it, neither an earlier one of the same name nor a later
        one; scaling does not change it.
    :param at_startup: whether the model is loaded because the settings or the models folder have it.
    :param changed: whether it was registered or scaled through management: a start leaves it as it is.
    :param failure: why a model that is to be served from the start cannot be found; empty if it was.
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
    """All registrations by name, and the least generation that none has had."""

    models: dict[str, Registration] = field(default_factory=dict)
    next_generation: int = 1


class RegistrationFile:
    """The file.

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
        """Keep other processes from changing the file.

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
        """Return whether the file is another one than was last read or written by this object."""
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
        """Read the file at the start of a server: its copy if it is damaged or missing, and SQLite's file of earlier
        versions if there is neither. To be called while it is locked.

        :raises StorageError: if nothing can be read or written there.
        """
        for partial in self.path.parent.glob(".registry.json.*.part"):  # of a process that was killed
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
        """Replace the file; it outlives a crash of the machine once this returns. To be called while it is locked.

        :raises StorageError: if it cannot be written; it is as it was then.
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
        """Return what an earlier version registered, in ``registry.sqlite3`` or in the copy beside it."""
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
    """Read what is registered, for programs that change nothing: of a damaged or missing file, nothing.

    :param folder: the instance folder.
    :raises StorageError: if it cannot be read.
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
    """Return what differs from the defaults."""
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
