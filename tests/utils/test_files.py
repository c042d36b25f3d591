from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.utils import files
from app.utils.files import atomic_write, replacing, replacing_folder, swap_folder


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "text").write_text(text)
    return folder


@pytest.fixture
def umask() -> int:
    before = os.umask(0o022)
    os.umask(before)
    return before


@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_a_file_is_written_with_its_mode(mode: int, umask: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("earlier")
    atomic_write(path, "späť\n", mode=mode, sync=True)
    assert path.read_bytes() == "späť\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == mode & ~umask
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_has_its_modification_time_from_the_beginning(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", b"\0\xff", modified=1_000_000.0)
    assert (tmp_path / "file").stat().st_mtime == 1_000_000.0
    assert (tmp_path / "file").read_bytes() == b"\0\xff"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    name = "ß" * 127  # 254 bytes
    atomic_write(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_readers_never_see_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {letter * 200_000 for letter in "ab"}
    atomic_write(path, "a" * 200_000)
    strange, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            if (found := path.read_text()) not in contents:
                strange.append(len(found))

    reading = threading.Thread(target=read)
    reading.start()
    for number in range(100):
        atomic_write(path, "ab"[number % 2] * 200_000)
    done.set()
    reading.join()
    assert not strange


def test_a_full_disk_leaves_only_the_earlier_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from app.utils.files import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "atomic_write(Path(sys.argv[1]), b'x' * 2000)"
    )
    path = tmp_path / "file"
    path.write_text("earlier")
    done = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
    assert b"File too large" in done.stderr
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_the_earlier_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("earlier")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        make(temporary, "half") if kind == "folder" else temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "old")
    make(tmp_path / ".model.partial", "of a killed process")
    with pytest.raises(ZeroDivisionError), replacing_folder(folder) as new:
        assert os.listdir(new) == []
        (new / "half").touch()
        raise ZeroDivisionError
    assert (folder / "text").read_text() == "old"
    with replacing_folder(folder) as new:
        (new / "other").write_text("new")
    assert os.listdir(folder) == ["other"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_new_folder_gets_the_name(tmp_path: Path) -> None:
    swap_folder(make(tmp_path / "made", "new"), tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("exchange", [True, False])
def test_an_old_folder_is_replaced_and_removed(exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:  # as on a system without the call
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    make(tmp_path / "model", "old")
    swap_folder(make(tmp_path / "made", "new"), tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged at once on Linux alone")
def test_readers_always_find_a_complete_folder_during_a_swap(tmp_path: Path) -> None:
    make(tmp_path / "model", "0")
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (tmp_path / "model").is_dir():
                missing.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(1, 300):
        swap_folder(make(tmp_path / "made", str(number)), tmp_path / "model")
    done.set()
    looking.join()
    assert not missing
    assert (tmp_path / "model" / "text").read_text() == "299"
