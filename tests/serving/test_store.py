from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import ModelConflict
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
