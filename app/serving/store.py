"""What was registered through the management API, on disk: it outlives every process, and all of them see it.

One SQLite file, of which the last good state is kept aside. Each server process holds one connection; a number that all
have mapped tells it whether another one has written since it last looked.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from app.errors import ModelConflict
from app.serving.changes import Changes
from app.serving.database import Database, Work

WRITE_SECONDS = 5.0
"""How long who wants to change something waits for another process's transaction."""
READ_SECONDS = 1.0
"""The same for who only looks: a request may be waiting."""
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
        """Open the file, which is made where it is missing, and replaced by its last good state where it is damaged.

        :raises RegistryBusy: where another process keeps it locked.
        :raises StorageError: where it cannot be read or written.
        """
        self._database = Database(path, TABLE)
        self._changes = Changes(path.with_name("registry.changes"))
        self._writing = threading.Lock()
        self._seen = self._data_version()

    def version(self) -> int:
        """A number that changes whenever another process has written. It costs no system call."""
        return self._changes.of_others()

    def look(self) -> None:
        """Find out what :meth:`version` has not been told: of a process that ended too early to tell, or a file that
        was put in the place of this one. To be called now and then.

        :raises RegistryBusy: as :meth:`all`, as ``StorageError``.
        """
        if (seen := self._data_version()) != self._seen:
            self._seen = seen
            self._changes.notice()

    def all(self) -> dict[str, Registration]:
        """Every registration, by name.

        :raises RegistryBusy: where another process keeps the file locked.
        :raises StorageError: where it cannot be read.
        """
        rows = self._database.run(
            lambda database: database.execute(f"SELECT {COLUMNS} FROM models ORDER BY name").fetchall(), READ_SECONDS
        )
        return {row[0]: replace(Registration(*row), removed=bool(row[-1])) for row in rows}

    def add(self, registration: Registration) -> None:
        """Keep a new registration. It may take the place of one that is marked as removed.

        :raises ModelConflict: where there is one of that name.
        :raises RegistryBusy: as :meth:`all`, as ``StorageError``; nothing is changed then.
        """

        def added(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM models WHERE name = ? AND removed", (registration.name,))
            try:
                database.execute(f"INSERT INTO models ({COLUMNS}) VALUES ({MARKS})", astuple(registration))
            except sqlite3.IntegrityError:
                raise ModelConflict(registration.name) from None

        self._write(added)

    def replace(self, registration: Registration) -> None:
        """Keep a registration in the place of the one that has its name, or as the first.

        :raises RegistryBusy: as :meth:`all`, as ``StorageError``; nothing is changed then.
        """
        row = astuple(registration)
        self._write(lambda database: database.execute(f"REPLACE INTO models ({COLUMNS}) VALUES ({MARKS})", row))

    def remove(self, name: str) -> None:
        """Forget a registration.

        :raises RegistryBusy: as :meth:`all`, as ``StorageError``; nothing is changed then.
        """
        self._write(lambda database: database.execute("DELETE FROM models WHERE name = ?", (name,)))

    def check(self) -> None:
        """See whether something could be changed now, by changing something and taking that back.

        :raises RegistryBusy: where another process keeps the file locked.
        :raises StorageError: where there is no room.
        """
        row = astuple(Registration("", "", ""))

        def tried(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            try:
                database.execute(f"REPLACE INTO models ({COLUMNS}) VALUES ({MARKS})", row)
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

        self._database.run(tried, WRITE_SECONDS)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
        self._changes.close()

    def _write(self, work: Work[object]) -> None:
        """Change something, tell the other processes, and keep a copy."""
        with self._writing:
            self._database.run(_in_transaction(work), WRITE_SECONDS)
            self._changes.tell()
            self._database.keep_copy()

    def _data_version(self) -> tuple[int, int]:
        """SQLite's own number, which is another one whenever another connection has written, and the connection's."""
        return self._database.run(
            lambda database: (id(database), int(database.execute("PRAGMA data_version").fetchone()[0])), READ_SECONDS
        )


def _in_transaction(work: Work[object]) -> Work[None]:
    def done(database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            work(database)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    return done
