"""An SQLite file that is looked after: a good copy is kept beside it, and taken when the file is damaged.

``<file>.bak`` is the state after the last change. A file that is no database any more is kept as
``<file>.corrupt-<time>``, and one that is missing, or empty, counts as damaged while there is a copy.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from app.errors import RegistryBusy, StorageError
from app.lock import locked

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

OPEN_SECONDS = 30.0
"""How long who opens the file waits for another process's transaction."""
BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite itself keeps beside a file."""


class Database:
    """One process's connection. Every method may be called from any thread."""

    def __init__(self, path: Path, table: str) -> None:
        """Open the file, which is made where it is missing.

        :param table: the SQL that makes what it holds, where it does not.
        :raises RegistryBusy: where another process keeps it locked.
        :raises StorageError: where it cannot be written.
        """
        self._path, self._table = path, table
        self._copy = path.with_name(path.name + ".bak")
        self._guard = path.with_name(path.name + ".lock")
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise self._problem(error) from error

    def run(self, work: Work[Result], seconds: float) -> Result:
        """Do something with the connection.

        :param seconds: how long to wait for another process's transaction.
        :raises RegistryBusy: where that takes longer.
        :raises StorageError: where the file cannot be read or written.
        """
        with self._lock:
            try:
                if self._was_replaced():
                    self._reopen("it was replaced or removed")
                self._connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
                try:
                    return work(self._connection)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._reopen(str(error))
                    return work(self._connection)
            except (OSError, sqlite3.Error) as error:
                raise self._problem(error) from error

    def keep_copy(self) -> None:
        """Keep the present state aside. Where that cannot be done, the copy is that of before, and the log says so."""
        with self._lock:
            try:
                with locked(self._guard):
                    self._back_up()
            except (OSError, sqlite3.Error) as error:
                log.warning("%s cannot be brought up to date: %s", self._copy, error)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _open(self) -> None:
        with locked(self._guard):
            for again in (True, True, False):  # the file, its copy, and one that is new
                try:
                    self._connection = self._connect()
                    break
                except sqlite3.DatabaseError as error:
                    if not again or not _is_damage(error):
                        raise
                    self._put_aside(str(error))
            status = os.stat(self._path)
            self._identity = (status.st_dev, status.st_ino)
            if not self._copy.exists():
                self._back_up()

    def _connect(self) -> sqlite3.Connection:
        """Open the file and see that it is whole; take the copy where there is nothing."""
        if (not self._path.exists() or not self._path.stat().st_size) and self._copy.exists():
            log.warning("%s is missing or empty; what was registered is taken from %s", self._path, self._copy)
            self._take_copy()
        connection = sqlite3.connect(self._path, OPEN_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            # one file, and nothing mapped: a full disk is an error then, and not the end of the process
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = FULL")  # what was accepted survives a power cut
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            connection.execute(self._table)
        except BaseException:
            connection.close()
            raise
        return connection

    def _was_replaced(self) -> bool:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _reopen(self, reason: str) -> None:
        log.warning("%s is opened again: %s", self._path, reason)
        self._connection.close()
        self._open()

    def _put_aside(self, reason: str) -> None:
        """Keep a damaged file under another name, and put the copy in its place."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self._path.with_name(f"{self._path.name}.corrupt-{now}")
        os.replace(self._path, aside)
        for name in BESIDE:
            beside = self._path.with_name(self._path.name + name)
            if beside.exists():
                os.replace(beside, aside.with_name(aside.name + name))
        if self._copy.exists():
            then = datetime.fromtimestamp(self._copy.stat().st_mtime, UTC).isoformat(timespec="seconds")
            log.error("%s is damaged (%s), and kept as %s; the state of %s is taken", self._path, reason, aside, then)
            self._take_copy(for_good=True)
        else:
            log.error("%s is damaged (%s), and kept as %s; nothing is registered", self._path, reason, aside)

    def _take_copy(self, for_good: bool = False) -> None:
        """:param for_good: whether the copy goes, so that one that is damaged, too, is not taken again."""
        if for_good:
            os.replace(self._copy, self._path)
            return
        new = self._path.with_name(self._path.name + ".new")
        shutil.copyfile(self._copy, new)
        os.replace(new, self._path)

    def _back_up(self) -> None:
        new = self._copy.with_name(self._copy.name + ".new")
        new.unlink(missing_ok=True)
        try:
            target = sqlite3.connect(new, isolation_level=None)
            try:
                self._connection.backup(target)
                found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
            finally:
                target.close()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            os.replace(new, self._copy)
        finally:
            new.unlink(missing_ok=True)

    def _problem(self, error: Exception) -> Exception:
        """What an error of SQLite or of the system means for who wanted something."""
        text = str(error)
        if isinstance(error, sqlite3.OperationalError) and "locked" in text:
            return RegistryBusy(self._path)
        if isinstance(error, OSError | sqlite3.OperationalError) or _is_damage(error):
            return StorageError(self._path, getattr(error, "strerror", None) or text)
        return error


def _is_damage(error: Exception) -> bool:
    """Whether the file is no database, or not this one. SQLite's classes for all else are below ``DatabaseError``."""
    return type(error) is sqlite3.DatabaseError or "no such table" in str(error)
