"""What was registered through the management API, on disk: it outlives every process, and all of them see it.

One SQLite file. Each server process holds one connection; SQLite's ``data_version`` tells it in microseconds whether
another one has written since it last looked.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from app.errors import ModelConflict
from app.lock import locked

WAIT_SECONDS = 30.0
"""How long a process waits for another one's transaction."""
TABLE = """
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    path TEXT NOT NULL,
    handler TEXT NOT NULL,
    runtime TEXT NOT NULL,
    batch_size INTEGER NOT NULL,
    max_batch_delay INTEGER NOT NULL,
    min_workers INTEGER NOT NULL,
    max_workers INTEGER NOT NULL,
    response_timeout REAL NOT NULL,
    removed INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class Registration:
    """How a model is to be served. The defaults are Multi Model Server's.

    ``url`` is what the client gave, ``path`` the model folder. ``max_batch_delay`` is in milliseconds,
    ``response_timeout`` in seconds. ``removed`` marks a model of the models folder that was unregistered: without the
    mark it would be back after the next start.
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

    def loads_as(self, other: Registration) -> bool:
        """Whether a model that was loaded for the one does for the other: only the number of its workers differs."""
        return replace(self, min_workers=other.min_workers, max_workers=other.max_workers) == other


COLUMNS = ", ".join(column.name for column in fields(Registration))
MARKS = ", ".join("?" for _ in fields(Registration))


class Store:
    """The registrations. Every method may be called from any thread of any process."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is made where it is missing.

        :raises sqlite3.Error: where it cannot be opened, or is no SQLite file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        # SQLite waits for another process's transaction, but not while that one turns the journal to WAL
        with locked(path.with_name(path.name + ".lock")):
            self._database = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # what was accepted survives a power cut
            self._database.execute(TABLE)

    def version(self) -> int:
        """A number that changes whenever another process has written."""
        with self._lock:
            return int(self._database.execute("PRAGMA data_version").fetchone()[0])

    def all(self) -> dict[str, Registration]:
        """Every registration, by name."""
        with self._lock:
            rows = self._database.execute(f"SELECT {COLUMNS} FROM models ORDER BY name").fetchall()
        return {row[0]: replace(Registration(*row), removed=bool(row[-1])) for row in rows}

    def add(self, registration: Registration) -> None:
        """Keep a new registration. It may take the place of one that is marked as removed.

        :raises ModelConflict: where there is one of that name.
        """
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM models WHERE name = ? AND removed", (registration.name,))
            try:
                self._database.execute(f"INSERT INTO models ({COLUMNS}) VALUES ({MARKS})", astuple(registration))
            except sqlite3.IntegrityError:
                raise ModelConflict(registration.name) from None

    def replace(self, registration: Registration) -> None:
        """Keep a registration in the place of the one that has its name, or as the first."""
        with self._lock:
            self._database.execute(f"REPLACE INTO models ({COLUMNS}) VALUES ({MARKS})", astuple(registration))

    def remove(self, name: str) -> None:
        """Forget a registration."""
        with self._lock:
            self._database.execute("DELETE FROM models WHERE name = ?", (name,))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._database.close()
