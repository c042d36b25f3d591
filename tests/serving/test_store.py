from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import ModelConflict, RegistryBusy, StorageError
from app.serving.store import Registration, Store
from app.settings import ROOT

GRIN = Registration("grin", "grin.mar", "/models/grin", "service:handle", "python", 2, 50, 1, 3, 60.0)


def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "registry.sqlite3")


def test_what_is_added_is_there_for_another_connection_as_it_was(tmp_path: Path) -> None:
    store(tmp_path).add(GRIN)
    assert store(tmp_path).all() == {"grin": GRIN}


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    first, second = store(tmp_path), store(tmp_path)
    first.add(GRIN)
    with pytest.raises(ModelConflict, match="grin is already registered"):
        second.add(replace(GRIN, url="other.mar"))
    assert second.all()["grin"].url == "grin.mar"


def test_one_that_was_removed_can_be_registered_again(tmp_path: Path) -> None:
    here = store(tmp_path)
    here.replace(replace(GRIN, removed=True))
    assert here.all()["grin"].removed
    here.add(GRIN)
    assert here.all() == {"grin": GRIN}
    here.remove("grin")
    assert here.all() == {}


def test_the_version_tells_of_what_others_write_and_of_nothing_else(tmp_path: Path) -> None:
    here, there = store(tmp_path), store(tmp_path)
    before = here.version()
    here.add(GRIN)
    assert here.version() == before
    there.replace(replace(GRIN, min_workers=2))
    after = here.version()
    assert after != before
    assert here.version() == after


CODE = """
import sys
from pathlib import Path
from app.serving.store import Registration, Store
print("ready", flush=True)
sys.stdin.readline()
store = Store(Path(sys.argv[1]))
print("open", flush=True)
if sys.argv[2] != "-":
    store.add(Registration(sys.argv[2], "url", "path"))
    print("added", flush=True)
    sys.stdin.read()
"""


def start(path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, str(path), name]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_many_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path / "registry.sqlite3", "-") for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["open\n"] * 8


def test_what_a_killed_process_has_added_is_there(tmp_path: Path) -> None:
    process = start(tmp_path / "registry.sqlite3", "grin")
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(3)] == ["ready\n", "open\n", "added\n"]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(store(tmp_path).all()) == ["grin"]


@pytest.mark.parametrize("damage", [b"", b"this is no database" * 500, None], ids=["empty", "garbage", "missing"])
def test_a_damaged_file_is_replaced_by_its_last_good_state(tmp_path: Path, damage: bytes | None) -> None:
    here = store(tmp_path)
    here.add(GRIN)
    here.add(replace(GRIN, name="frown"))
    here.remove("grin")
    here.close()
    path = tmp_path / "registry.sqlite3"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert set(store(tmp_path).all()) == {"frown"}
    aside = list(tmp_path.glob("registry.sqlite3.corrupt-*"))
    assert [one.read_bytes() for one in aside] == ([damage] if damage else [])


def test_a_file_cut_in_the_middle_is_damaged_though_it_begins_well(tmp_path: Path) -> None:
    here = store(tmp_path)
    for number in range(200):
        here.add(replace(GRIN, name=f"grin{number}"))
    here.close()
    path = tmp_path / "registry.sqlite3"
    os.truncate(path, path.stat().st_size // 2)
    assert len(store(tmp_path).all()) == 200


def test_what_was_lost_for_good_does_not_keep_anybody_from_beginning(tmp_path: Path) -> None:
    store(tmp_path).add(GRIN)
    for name in ("registry.sqlite3", "registry.sqlite3.bak"):
        (tmp_path / name).write_bytes(b"neither is a database")
    here = store(tmp_path)
    assert here.all() == {}
    here.add(GRIN)
    assert store(tmp_path).all() == {"grin": GRIN}


def test_a_file_that_becomes_garbage_or_goes_while_it_is_open_is_replaced(tmp_path: Path) -> None:
    here, there = store(tmp_path), store(tmp_path)
    here.add(GRIN)
    path = tmp_path / "registry.sqlite3"
    path.write_bytes(b"this is no database" * 500)
    here.add(replace(GRIN, name="frown"))
    assert set(there.all()) == {"grin", "frown"}
    path.unlink()
    there.add(replace(GRIN, name="smirk"))
    assert set(here.all()) == {"grin", "frown", "smirk"}


def test_a_file_that_another_program_locks_is_told_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.store.WRITE_SECONDS", 0.1)
    here = store(tmp_path)
    here.add(GRIN)
    other = sqlite3.connect(tmp_path / "registry.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for change in (lambda: here.add(replace(GRIN, name="frown")), lambda: here.remove("grin"), here.check):
        with pytest.raises(RegistryBusy, match=r"registry\.sqlite3 locked"):
            change()
    with pytest.raises(RegistryBusy):
        here.all()
    other.execute("ROLLBACK")
    assert here.all() == {"grin": GRIN}


def test_what_nobody_told_is_seen_by_who_looks(tmp_path: Path) -> None:
    here = store(tmp_path)
    before = here.version()
    here.look()
    assert here.version() == before
    with sqlite3.connect(tmp_path / "registry.sqlite3") as other:  # a process that was killed before it could tell
        other.execute("DELETE FROM models")
        other.execute("PRAGMA user_version = 7")
    assert here.version() == before
    here.look()
    assert here.version() != before


def test_to_see_whether_something_could_be_changed_changes_nothing(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.add(GRIN)
    kept.check()
    assert kept.all() == {"grin": GRIN}


def test_a_disk_without_room_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    kept = store(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageError):
            kept.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept.check()
