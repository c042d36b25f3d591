from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from app.formats import place as module
from app.formats.place import place


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "text").write_text(text)
    return folder


def test_a_new_folder_takes_the_name(tmp_path: Path) -> None:
    place(make(tmp_path / "made", "new"), tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("exchange", [True, False])
def test_an_old_folder_is_replaced_and_gone(exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:  # as on a system without the call
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    make(tmp_path / "model", "old")
    place(make(tmp_path / "made", "new"), tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged at once on Linux alone")
def test_whoever_looks_meanwhile_always_finds_a_whole_folder(tmp_path: Path) -> None:
    make(tmp_path / "model", "0")
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (tmp_path / "model").is_dir():
                missing.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(1, 300):
        place(make(tmp_path / "made", str(number)), tmp_path / "model")
    done.set()
    looking.join()
    assert not missing
    assert (tmp_path / "model" / "text").read_text() == "299"
