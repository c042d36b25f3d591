"""A model folder is named by its content, and what arrives is what was sent."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from app.cluster.contents import digest_of, pack_folder, unpack_checked
from app.errors import ModelFormatError
from app.settings import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    (made / "MAR-INF").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"abc")
    (made / "MAR-INF" / "MANIFEST.json").write_bytes(b"{}")
    return made


def test_the_digest_is_that_of_paths_lengths_and_hashes_in_their_order(folder: Path) -> None:
    # sha256 of "abc" is in FIPS 180-2, appendix B.1
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    empty = hashlib.sha256(b"{}").hexdigest()
    wanted = hashlib.sha256(f"MAR-INF/MANIFEST.json\x002\x00{empty}\na.txt\x003\x00{abc}\n".encode()).hexdigest()
    assert digest_of(folder) == wanted


def test_hidden_files_and_dates_do_not_count(folder: Path) -> None:
    before = digest_of(folder)
    (folder / ".lock").write_text("x")
    (folder / "a.txt").touch()
    assert digest_of(folder) == before


@pytest.mark.parametrize("change", ["content", "name", "folder"])
def test_any_change_gives_another_digest(folder: Path, change: str) -> None:
    before = digest_of(folder)
    if change == "content":
        (folder / "a.txt").write_bytes(b"abd")
    else:
        (folder / "a.txt").rename(folder / ("b.txt" if change == "name" else "MAR-INF/a.txt"))
    assert digest_of(folder) != before


def test_a_shipped_model_comes_out_as_it_went_in(tmp_path: Path) -> None:
    source = ROOT / "models" / "smile"
    digest = digest_of(source)
    pack_folder(source, tmp_path / "packed.zip")
    unpack_checked(tmp_path / "packed.zip", tmp_path / "out" / "smile", digest)
    assert digest_of(tmp_path / "out" / "smile") == digest
    assert (tmp_path / "out" / "smile" / "smile.h5").read_bytes() == (source / "smile.h5").read_bytes()


def test_another_content_than_was_asked_for_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    digest = digest_of(folder)
    (folder / "a.txt").write_bytes(b"abd")
    pack_folder(folder, tmp_path / "packed.zip")
    with pytest.raises(ModelFormatError, match=digest[:16]):
        unpack_checked(tmp_path / "packed.zip", tmp_path / "out" / "net", digest)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_folder_is_replaced(folder: Path, tmp_path: Path) -> None:
    digest = digest_of(folder)
    pack_folder(folder, tmp_path / "packed.zip")
    damaged = tmp_path / "out" / "net"
    shutil.copytree(folder, damaged)
    (damaged / "a.txt").write_bytes(b"")
    unpack_checked(tmp_path / "packed.zip", damaged, digest)
    assert (damaged / "a.txt").read_bytes() == b"abc"
