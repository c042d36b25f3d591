"""A backup of a running server, restored after everything was lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import ROOT
from tests.conftest import SHIPPED, Server

EXAMPLES = ROOT / "docs" / "examples"


@contextmanager
def serving(place: Path) -> Iterator[Server]:
    shutil.rmtree(place / "home", ignore_errors=True)
    server = Server(place / "models", place, DIMPLE_SHIPPED_MODELS="false")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def fetch(server: Server, path: str, method: str = "GET") -> object:
    address = f"http://127.0.0.1:{server.management_port}{path}"
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=120) as answer:
        return json.load(answer)


def run(script: str, place: Path, argument: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(EXAMPLES / script), str(argument)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def names(server: Server) -> dict[str, str]:
    listed = fetch(server, "/models?limit=100")
    assert isinstance(listed, dict)
    return {item["modelName"]: item["modelUrl"] for item in listed["models"]}


def test_a_restored_backup_brings_back_lost_files(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in SHIPPED:
        shutil.copytree(ROOT / "models" / name, place / "models" / name)
    (place / ".venv").symlink_to(ROOT / ".venv")
    backup = tmp_path / "backup.tar.gz"
    with serving(place) as server:
        fetch(server, "/models?url=smile&model_name=second&initial_workers=1", "POST")
        fetch(server, "/models/dogcat", "DELETE")
        before = names(server)
        assert "second" in before and "dogcat" not in before
        (place / "instance" / "corrections").mkdir()
        (place / "instance" / "corrections" / "one.png").write_bytes(b"a picture")
        done = run("backup.sh", place, backup)
        assert done.returncode == 0, done.stderr
        assert names(server) == before

    shutil.rmtree(place / "models")
    (place / "instance" / "registry.json").write_bytes(b"overwritten")
    done = run("restore.sh", place, backup)
    assert done.returncode == 0, done.stderr
    assert (place / "instance" / "corrections" / "one.png").read_bytes() == b"a picture"
    (aside,) = place.glob("instance.before-*")
    assert (aside / "registry.json").read_bytes() == b"overwritten"
    with serving(place) as server:
        assert names(server) == before


def test_a_backup_is_private_and_contains_nothing_that_can_be_rebuilt(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    for name in ("cache", "logs", "archives/a"):
        (instance / name).mkdir(parents=True)
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (instance / "registry.json").write_text("{}")
    (instance / "tokens.json").write_text("{}")
    backup = tmp_path / "backup.tar.gz"
    done = run("backup.sh", tmp_path, backup)
    assert done.returncode == 0, done.stderr
    assert backup.stat().st_mode & 0o077 == 0
    with tarfile.open(backup) as archive:
        held = set(archive.getnames())
    assert {"instance/registry.json", "instance/tokens.json", "instance/archives/a", "models/m"} <= held
    assert not [name for name in held if name.startswith(("instance/cache", "instance/logs"))]


def test_no_backup_is_made_outside_a_checkout(tmp_path: Path) -> None:
    done = run("backup.sh", tmp_path, tmp_path / "backup.tar.gz")
    assert (done.returncode, "run it in the checkout" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_restoring_an_invalid_backup_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "other.tar.gz").write_bytes(b"no archive")
    assert run("restore.sh", tmp_path, tmp_path / "other.tar.gz").returncode != 0
    assert (tmp_path / "instance").is_dir()
