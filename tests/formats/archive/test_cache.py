from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import InvalidArchive, ModelFormatError
from app.formats.archive.cache import archive_name, is_archive, open_archive, unpack_into
from app.settings import ROOT
from tests.formats.archive.archives import MANIFEST, manifest, put, read_tree, zipped
from tests.helpers import wait_until

FILES = {"service.py": "print()", "sub/1.py": "", "MAR-INF/MANIFEST.json": MANIFEST}
CONTENT = {name: text.encode() for name, text in FILES.items()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return zipped(tmp_path / "given.mar", FILES)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work" / "archives"


def left(work: Path) -> list[str]:
    return sorted(path.name for path in work.iterdir() if path.name != ".lock" and path.suffix != ".used")


def test_the_folder_is_named_after_content_and_model(archive: Path, work: Path) -> None:
    found = open_archive(archive, work)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert found == work / digest / "m.1"
    assert read_tree(found) == CONTENT
    assert left(work) == [digest]


def test_an_archive_is_unpacked_once(archive: Path, work: Path) -> None:
    first = open_archive(archive, work)
    before = (first / "service.py").stat()
    assert open_archive(archive, work) == first
    after = (first / "service.py").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", ["service.py", "sub", "MAR-INF/MANIFEST.json", "../files.json"])
def test_a_folder_that_lost_a_file_is_unpacked_again(archive: Path, work: Path, damage: str) -> None:
    lost = open_archive(archive, work) / damage
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()
    assert read_tree(open_archive(archive, work)) == CONTENT


def test_a_folder_with_a_truncated_file_is_unpacked_again(archive: Path, work: Path) -> None:
    (open_archive(archive, work) / "service.py").write_text("pr")
    assert read_tree(open_archive(archive, work)) == CONTENT


def test_a_changed_archive_gets_a_folder_of_its_own(archive: Path, work: Path) -> None:
    first = open_archive(archive, work)
    zipped(archive, {**FILES, "service.py": "new"})
    second = open_archive(archive, work)
    assert second != first
    assert (first / "service.py").read_text() == "print()"
    assert (second / "service.py").read_text() == "new"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("squeezenet_v1.1.mar", "squeezenet_v1_1"),
        ("resnet-18.model", "resnet_18"),
        ("net.tar.gz", "net"),
        ("net.TGZ", "net"),
        ("größe.zip", "gr__e"),
        ("noop", "noop"),
    ],
)
def test_the_file_name_is_the_model_name_if_the_manifest_has_none(file: str, name: str) -> None:
    """The rule for names is MMS's: the file's stem, all that is no ASCII letter, digit or ``_`` made ``_``."""
    assert archive_name(Path(file)) == name


def test_an_archive_without_a_manifest_is_named_after_its_file(tmp_path: Path, work: Path) -> None:
    archive = zipped(tmp_path / "no-manifest.mar", {"service.py": ""})
    assert open_archive(archive, work).name == "no_manifest"


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/tmp/x", ".x", "a b", "x\n"])
def test_an_invalid_model_name_is_refused(tmp_path: Path, work: Path, name: str) -> None:
    archive = zipped(tmp_path / "m.mar", {"MAR-INF/MANIFEST.json": manifest(modelName=name, handler="a:b")})
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(InvalidArchive, match="cannot be a model's name"):
        open_archive(archive, work)
    assert left(work) == []
    assert {path.name for path in tmp_path.iterdir()} == before | {"work"}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "Failed to parse signature.json."),
        ("[]", "Failed to parse signature.json."),
        ("{}", "Model name is not defined."),
        ('{"model": {}, "runtime": "ruby"}', "Runtime is not defined or invalid."),
    ],
)
def test_a_broken_manifest_is_refused_with_the_message_of_mms_and_nothing_is_left(
    tmp_path: Path, work: Path, broken: str, message: str
) -> None:
    archive = zipped(tmp_path / "m.mar", {"MAR-INF/MANIFEST.json": broken, "a.py": ""})
    with pytest.raises(InvalidArchive) as raised:
        open_archive(archive, work)
    assert str(raised.value) == message
    assert left(work) == []


def test_a_manifest_without_a_handler_is_left_to_the_registration(tmp_path: Path, work: Path) -> None:
    archive = zipped(tmp_path / "m.mar", {"MAR-INF/MANIFEST.json": manifest(modelName="net")})
    assert open_archive(archive, work).name == "net"


def test_a_damaged_archive_is_refused_and_nothing_is_left(archive: Path, work: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InvalidArchive, match=r"given\.mar"):
        open_archive(archive, work)
    assert left(work) == []


def test_a_missing_archive_is_refused(tmp_path: Path, work: Path) -> None:
    with pytest.raises(InvalidArchive, match="none"):
        open_archive(tmp_path / "none.mar", work)


def test_an_unwritable_folder_is_reported(archive: Path, tmp_path: Path) -> None:
    put(tmp_path, {"file": ""})
    with pytest.raises(ModelFormatError, match="cannot be written"):
        open_archive(archive, tmp_path / "file" / "work")


def test_concurrent_processes_get_one_complete_folder(tmp_path: Path, work: Path) -> None:
    """There are so many files that they would get into one another's way if they did not wait."""
    files = {f"{number}.py": str(number) for number in range(3_000)}
    archive = zipped(tmp_path / "many.mar", files)
    with multiprocessing.get_context("spawn").Pool(3) as processes:
        found = processes.starmap(open_archive, [(archive, work)] * 6, chunksize=1)
    assert len(set(found)) == 1
    assert read_tree(found[0]) == {name: text.encode() for name, text in files.items()}
    assert left(work) == [found[0].parent.name]


def test_files_of_a_killed_process_are_removed(archive: Path, work: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; import app.formats.archive.cache as opening; "
        "unpack = opening.unpack; "
        "opening.unpack = lambda *where: (unpack(*where), Path(sys.argv[3]).touch(), time.sleep(60)); "
        "opening.open_archive(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    sign = archive.parent / "unpacked"
    process = subprocess.Popen([sys.executable, "-c", code, archive, work, sign], cwd=ROOT)
    wait_until(sign.exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert left(work) == [f".{digest}.partial"]
    assert read_tree(open_archive(archive, work)) == CONTENT
    assert left(work) == [digest]


def test_unpacking_into_a_folder_never_overwrites_a_model(archive: Path, tmp_path: Path) -> None:
    models = put(tmp_path / "models", {"m.1/mine.txt": "mine"})
    with pytest.raises(ModelFormatError, match="is there already"):
        unpack_into(archive, models)
    assert read_tree(models) == {"m.1/mine.txt": b"mine"}
    assert [path.name for path in models.iterdir()] == ["m.1"]


def test_archives_are_recognised_by_name_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    put(tmp_path, {name: "" for name in ("a.mar", "b.MODEL", "c.tar.gz", "d.tgz", "e.zip", ".f.mar", "g.txt", "h.tar")})
    (tmp_path / "i.mar").mkdir()
    found = {path.name for path in tmp_path.iterdir() if is_archive(path)}
    assert found == {"a.mar", "b.MODEL", "c.tar.gz", "d.tgz", "e.zip"}


def test_a_listing_in_another_format_is_ignored(archive: Path, work: Path) -> None:
    listing = open_archive(archive, work).parent / "files.json"
    for broken in ([], {"name": "m.1"}, {"name": "m.1", "files": []}, {"name": "m.1", "files": {"service.py": -1}}):
        listing.write_text(json.dumps(broken))
        assert read_tree(open_archive(archive, work)) == CONTENT
