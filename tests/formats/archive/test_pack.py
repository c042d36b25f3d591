"""Archives with the names, the manifest's text and the refusals of model-archiver 1.0.3."""

from __future__ import annotations

import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import PackError
from app.formats.archive.pack import Format, PackJob, only_onnx, pack
from app.formats.archive.unpack import unpack
from tests.formats.archive.archives import MANIFEST, put, read_tree

# The folder that was given to model-archiver, and the names that came out of it.
GIVEN = {
    ".dot": "dot",
    "a.py": "print()",
    "b.pyc": "",
    "x.DS_Store": "",
    ".DS_Store": "",
    "old.mar": "",
    "big.tar.gz": "",
    "MANIFEST.json": "old",
    "MAR-INF/MANIFEST.json": "old",
    "MAR-INF/other.txt": "",
    "sub/1.py": "# one",
    "sub/MANIFEST.json": "",
    "sub/__pycache__/1.pyc": "",
    "__MACOSX/x": "",
    ".hid/y": "",
}
PACKED = {".dot", "a.py", "big.tar.gz", "link.py", "sub/1.py", "MAR-INF/other.txt", "MAR-INF/MANIFEST.json"}


@pytest.fixture
def order(tmp_path: Path) -> PackJob:
    folder = put(tmp_path / "given", GIVEN)
    (folder / "empty").mkdir()
    (folder / "link.py").symlink_to("a.py")
    (folder / "linked").symlink_to("sub")
    (tmp_path / "out").mkdir()
    return PackJob("m.1", folder, "service:handle", export_path=tmp_path / "out")


def test_a_mar_has_the_contents_that_model_archiver_writes(order: PackJob) -> None:
    made = pack(order)
    assert made == order.export_path / "m.1.mar"
    with zipfile.ZipFile(made) as archive:
        assert set(archive.namelist()) == PACKED
        assert archive.read("MAR-INF/MANIFEST.json").decode() == MANIFEST
        assert archive.read("a.py") == archive.read("link.py") == b"print()"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        assert archive.testzip() is None


def test_a_tgz_has_the_same_contents_under_the_model_name(order: PackJob) -> None:
    made = pack(replace(order, archive_format="tgz"))
    assert made == order.export_path / "m.1.tar.gz"
    with tarfile.open(made, "r:gz") as archive:
        assert {info.name for info in archive} == {f"m.1/{name}" for name in PACKED}
        assert all(info.isreg() for info in archive)
        manifest = archive.extractfile("m.1/MAR-INF/MANIFEST.json")
        assert manifest is not None and manifest.read().decode() == MANIFEST


def test_the_no_archive_format_is_a_folder_with_the_same_files(order: PackJob) -> None:
    made = pack(replace(order, archive_format="no-archive"))
    assert made == order.export_path / "m.1"
    found = read_tree(made)
    assert set(found) == PACKED
    assert found["MAR-INF/MANIFEST.json"].decode() == MANIFEST


@pytest.mark.parametrize("archive_format", ["default", "tgz", "no-archive"])
def test_packing_and_unpacking_preserve_all_files(order: PackJob, tmp_path: Path, archive_format: Format) -> None:
    made = pack(replace(order, archive_format=archive_format))
    folder = made if made.is_dir() else unpack(made, tmp_path / "again")
    expected = {name: text.encode() for name, text in GIVEN.items() if name in PACKED}
    expected |= {"link.py": b"print()", "MAR-INF/MANIFEST.json": MANIFEST.encode()}
    assert read_tree(folder) == expected


@pytest.mark.parametrize("archive_format", ["default", "tgz"])
def test_the_same_folder_gives_the_same_bytes(order: PackJob, archive_format: Format) -> None:
    order = replace(order, archive_format=archive_format, force=True)
    first = pack(order).read_bytes()
    os.utime(order.model_path / "a.py", (1_000_000_000, 1_000_000_000))
    (order.model_path / "a.py").chmod(0o600)
    assert pack(order).read_bytes() == first


def test_entries_are_in_the_order_of_their_names_with_the_manifest_last(tmp_path: Path) -> None:
    names = [f"{number * 37 % 101:03}.py" for number in range(101)]  # 37 and 101 share no factor: each number once
    folder = put(tmp_path / "model", dict.fromkeys(names, ""))
    with zipfile.ZipFile(pack(PackJob("m.1", folder, "a", export_path=tmp_path))) as archive:
        assert archive.namelist() == [*(f"{number:03}.py" for number in range(101)), "MAR-INF/MANIFEST.json"]


def test_the_time_of_packing_is_not_written(order: PackJob) -> None:
    """A gzip's bytes 4 to 8 are its time (RFC 1952), a zip cannot say less than 1980."""
    assert pack(replace(order, archive_format="tgz")).read_bytes()[4:8] == bytes(4)
    with zipfile.ZipFile(pack(order)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_runtime_is_written_as_given(order: PackJob) -> None:
    with zipfile.ZipFile(pack(replace(order, runtime="python2"))) as archive:
        assert archive.read("MAR-INF/MANIFEST.json").decode() == MANIFEST.replace('"python"', '"python2"')


@pytest.mark.parametrize("name", ["a b", "../x", "a/b", "-x", "_x", ".x", "", "x\n", "größe"])
def test_a_name_with_special_characters_is_refused(order: PackJob, name: str) -> None:
    with pytest.raises(PackError, match=r"^Model name contains special characters\.\nThe allowed regular expression"):
        pack(replace(order, model_name=name))
    assert list(order.export_path.iterdir()) == []


def test_missing_folders_are_refused_with_the_original_messages(order: PackJob, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(PackError) as raised:
        pack(replace(order, model_path=nowhere))
    assert str(raised.value) == (
        f"Given model-path {nowhere} is not a valid directory. Point to a valid model-path directory."
    )
    with pytest.raises(PackError) as raised:
        pack(replace(order, export_path=nowhere, model_path=nowhere))
    assert str(raised.value) == (
        f"Given export-path {nowhere} is not a directory. Point to a valid export-path directory."
    )


@pytest.mark.parametrize("archive_format", ["default", "tgz", "no-archive"])
def test_an_existing_archive_is_overwritten_only_with_force(order: PackJob, archive_format: Format) -> None:
    order = replace(order, archive_format=archive_format)
    pack(order)
    put(order.model_path, {"a.py": "new"})
    before = read_tree(order.export_path)
    with pytest.raises(PackError, match=r"already exists\.\nPlease specify --force/-f option to overwrite"):
        pack(order)
    assert read_tree(order.export_path) == before
    pack(replace(order, force=True))
    assert read_tree(order.export_path) != before


def test_force_on_a_folder_keeps_foreign_files(order: PackJob) -> None:
    order = replace(order, archive_format="no-archive", force=True)
    put(order.export_path / "m.1", {"mine.txt": "mine", "a.py": "old"})
    pack(order)
    found = read_tree(order.export_path / "m.1")
    assert set(found) == PACKED | {"mine.txt"}
    assert found["a.py"] == b"print()"


def test_the_no_archive_format_in_place_writes_only_the_manifest(tmp_path: Path) -> None:
    folder = put(tmp_path / "m.1", {"a.py": "print()"})
    pack(PackJob("m.1", folder, "service:handle", export_path=tmp_path, archive_format="no-archive", force=True))
    assert read_tree(folder) == {"a.py": b"print()", "MAR-INF/MANIFEST.json": MANIFEST.encode()}


@pytest.mark.parametrize("archive_format", ["default", "tgz", "no-archive"])
def test_an_archive_written_into_the_model_folder_does_not_contain_itself(
    tmp_path: Path, archive_format: Format
) -> None:
    folder = put(tmp_path / "model", {"a.py": ""})
    order = PackJob("m.1", folder, "a", export_path=folder, archive_format=archive_format, force=True)
    pack(order)
    made = pack(order)
    again = made if made.is_dir() else unpack(made, tmp_path / "again")
    assert set(read_tree(again)) == {"a.py", "MAR-INF/MANIFEST.json"}


def test_only_one_onnx_file_may_be_converted(order: PackJob) -> None:
    assert only_onnx(order.model_path) is None
    put(order.model_path, {"a.onnx": ""})
    assert only_onnx(order.model_path) == order.model_path / "a.onnx"
    put(order.model_path, {"b.onnx": ""})
    with pytest.raises(PackError, match=r"^model-archiver expects only one \.onnx file in the folder\. Found 2 files"):
        only_onnx(order.model_path)


@pytest.mark.parametrize("archive_format", ["default", "tgz", "no-archive"])
def test_a_file_that_cannot_be_packed_is_named_and_nothing_is_left(order: PackJob, archive_format: Format) -> None:
    (order.model_path / "lost.params").symlink_to("nowhere")
    with pytest.raises(PackError, match=r"lost\.params"):
        pack(replace(order, archive_format=archive_format))
    assert list(order.export_path.iterdir()) == []


@pytest.mark.parametrize("archive_format", ["default", "tgz", "no-archive"])
def test_a_file_name_that_is_not_utf8_is_reported_and_nothing_is_left(order: PackJob, archive_format: Format) -> None:
    (order.model_path / os.fsdecode(b"caf\xe9.txt")).touch()
    try:
        made = pack(replace(order, archive_format=archive_format))
    except PackError as error:
        assert "UTF-8" in str(error)
        assert list(order.export_path.iterdir()) == []
    else:
        assert made.name in ("m.1", "m.1.tar.gz")  # a folder and a tar can hold any bytes
