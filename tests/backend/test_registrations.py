"""The file of the registrations: complete at every moment, recovered from its copy, and migrated from SQLite."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from app.backend import registrations
from app.backend.registrations import Registration, RegistrationFile, Registrations
from app.errors import RegistryBusy, StorageError

ONE = Registration("one", "one.mar", "/models/one", min_workers=2, max_workers=3, generation=4, changed=True)
BOTH = Registrations({"one": ONE, "two": replace(ONE, name="two", removed=True, generation=5)}, 6)


@pytest.fixture
def file(tmp_path: Path) -> RegistrationFile:
    return RegistrationFile(tmp_path)


def written(file: RegistrationFile, what: Registrations = BOTH) -> None:
    with file.locked():
        file.write(what)


def recovered(folder: Path) -> Registrations:
    again = RegistrationFile(folder)
    with again.locked():
        return again.recover()


def test_written_registrations_are_read_back(file: RegistrationFile, tmp_path: Path) -> None:
    written(file)
    assert recovered(tmp_path) == BOTH
    assert RegistrationFile(tmp_path).read() == BOTH


def test_changes_by_other_processes_are_detected_but_own_changes_are_not(
    file: RegistrationFile, tmp_path: Path
) -> None:
    written(file)
    assert not file.is_changed()
    written(RegistrationFile(tmp_path), Registrations({}, 7))
    assert file.is_changed()
    assert file.read().next_generation == 7
    assert not file.is_changed()


@pytest.mark.parametrize(
    "damage", [None, b"", b"\x00garbage", b'{"models": []}', b'{"models": [1], "next_generation": 1}']
)
def test_a_damaged_or_missing_file_is_recovered_from_its_copy(
    file: RegistrationFile, tmp_path: Path, damage: bytes | None
) -> None:
    written(file)
    if damage is None:
        file.path.unlink()
    else:
        file.path.write_bytes(damage)
    assert recovered(tmp_path) == BOTH
    aside = [path.read_bytes() for path in tmp_path.glob("registry.json.corrupt-*")]
    assert aside == ([] if damage is None else [damage])


def test_a_partial_file_of_a_killed_process_is_removed(file: RegistrationFile, tmp_path: Path) -> None:
    written(file)
    (tmp_path / ".registry.json.0123456789abcdef.part").write_bytes(b"half")
    recovered(tmp_path)
    assert list(tmp_path.glob(".*")) == []


def test_without_a_copy_nothing_is_registered(file: RegistrationFile, tmp_path: Path) -> None:
    written(file)
    file.path.write_bytes(b"?")
    file.path.with_name("registry.json.bak").unlink()
    assert recovered(tmp_path) == Registrations()


def test_the_registrations_of_an_earlier_version_are_migrated(tmp_path: Path) -> None:
    columns = "name, url, path, handler, runtime, batch_size, max_batch_delay, min_workers, max_workers"
    with sqlite3.connect(tmp_path / "registry.sqlite3") as database:
        database.execute(f"CREATE TABLE models ({columns}, response_timeout, removed)")
        database.execute("INSERT INTO models VALUES ('a','a.mar','/a','s:h','python3',8,50,1,2,60.0,0)")
        database.execute("INSERT INTO models VALUES ('b','b','/b','','python',1,100,1,1,120.0,1)")
    database.close()
    found = recovered(tmp_path)
    assert found == Registrations(
        {
            "a": Registration("a", "a.mar", "/a", "s:h", "python3", 8, 50, 1, 2, 60.0, generation=1, changed=True),
            "b": Registration("b", "b", "/b", removed=True, min_workers=1, max_workers=1, generation=2, changed=True),
        },
        3,
    )


def test_a_lock_held_by_another_program_is_reported(
    file: RegistrationFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "LOCK_SECONDS", 0.0)
    with (tmp_path / "registry.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RegistryBusy, match="holds the lock"), file.locked():
            pass
    written(file)


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), RegistrationFile(tmp_path / "file" / "instance").locked():
        pass


def test_only_values_that_differ_from_the_defaults_are_written(file: RegistrationFile) -> None:
    written(file, Registrations({"a": Registration("a", "u", "/p")}, 2))
    assert json.loads(file.path.read_text()) == {
        "next_generation": 2,
        "models": [{"name": "a", "url": "u", "path": "/p"}],
    }
