from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.formats.archive.cache import open_archive, remove_unused
from app.settings import ROOT
from tests.formats.archive.archives import MANIFEST, read_tree, zipped

OTHER_PROCESS = """
import sys
from pathlib import Path
from app.formats.archive.cache import open_archive
print(open_archive(Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "archives"


def packed(path: Path, version: str) -> Path:
    return zipped(path, {"service.py": version, "MAR-INF/MANIFEST.json": MANIFEST})


class Process:
    """Another process, which has opened an archive."""

    def __init__(self, archive: Path, work: Path) -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(archive), str(work)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def test_a_folder_in_use_is_kept_until_its_process_ends(tmp_path: Path, work: Path) -> None:
    archive = packed(tmp_path / "m.mar", "1")
    other = Process(archive, work)
    first = other.folder
    packed(archive, "2")
    second = open_archive(archive, work)
    assert remove_unused(work, []) == []
    assert (first / "service.py").read_text() == "1"
    other.kill()
    assert remove_unused(work, []) == [first.parent]
    assert not first.parent.exists()
    assert (second / "service.py").read_text() == "2"
    assert not [path for path in work.iterdir() if first.parent.name in path.name]


def test_a_registered_folder_is_kept_although_no_process_has_opened_it(tmp_path: Path, work: Path) -> None:
    other = Process(packed(tmp_path / "m.mar", "1"), work)
    other.kill()
    assert remove_unused(work, [other.folder, tmp_path / "models" / "smile"]) == []
    assert (other.folder / "service.py").is_file()


def test_only_unpacked_folders_are_removed(tmp_path: Path, work: Path) -> None:
    other = Process(packed(tmp_path / "m.mar", "1"), work)
    other.kill()
    foreign = {"fetched/half.mar": b"x", "notes.txt": b"mine", f"{'a' * 63}/file": b"short"}
    for name, content in foreign.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes(content)
    remove_unused(work, [])
    assert {name: data for name, data in read_tree(work).items() if name != ".lock"} == foreign


def test_an_archive_that_was_removed_can_be_opened_again(tmp_path: Path, work: Path) -> None:
    archive = packed(tmp_path / "m.mar", "1")
    other = Process(archive, work)
    other.kill()
    assert len(remove_unused(work, [])) == 1
    again = open_archive(archive, work)
    assert (again / "service.py").read_text() == "1"
    assert remove_unused(work, []) == []


def test_nothing_is_removed_if_nothing_was_unpacked(work: Path) -> None:
    assert remove_unused(work, []) == []
