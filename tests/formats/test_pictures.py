from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from app.errors import DataError
from app.formats.pictures import by_class, open_pictures


def lay(folder: Path, *names: str) -> Path:
    """Write files whose content is their name; names ending with ``/`` are folders."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(name)
    return folder


def pack(path: Path, *names: str, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else name)
    return path


def classes(path: Path) -> dict[str, tuple[str, ...]]:
    with open_pictures(path) as source:
        return by_class(source)


def test_pictures_are_recognised_by_their_file_name_suffix(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.JPEG", "c.png", "d.txt", "e", "f.webp", "jpg", "g.tif/")
    with open_pictures(tmp_path) as source:
        assert source.pictures == ("a.jpg", "b.JPEG", "c.png", "f.webp")


def test_hidden_files_and_the_resource_forks_of_macos_are_skipped(tmp_path: Path) -> None:
    names = ("cats/1.jpg", "cats/._1.jpg", "__MACOSX/cats/2.jpg", ".cache/3.jpg")
    lay(tmp_path / "data", *names)
    for path in (tmp_path / "data", pack(tmp_path / "data.zip", *names)):
        with open_pictures(path) as source:
            assert source.pictures == ("cats/1.jpg",)
            assert source.folders == ("cats",)


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    with open_pictures(lay(tmp_path / ".hidden" / "data", "a.png")) as source:
        assert source.pictures == ("a.png",)


def test_a_zip_and_its_folder_list_pictures_in_the_same_order(tmp_path: Path) -> None:
    # by whole names "-" (2D) comes before "/" (2F); by folders "cats" comes before "cats-2"
    names = ("cats/1.jpg", "cats-2/1.jpg", "cats/10.jpg", "cats/2.jpg")
    expected = ("cats-2/1.jpg", "cats/1.jpg", "cats/10.jpg", "cats/2.jpg")
    lay(tmp_path / "data", *names)
    for path in (tmp_path / "data", pack(tmp_path / "data.zip", *names)):
        with open_pictures(path) as source:
            assert source.pictures == expected
            assert [source.read(name) for name in expected] == [name.encode() for name in expected]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_name_in_a_zip_is_one_picture(tmp_path: Path) -> None:
    with open_pictures(pack(tmp_path / "data.zip", "a/1.jpg", "a/1.jpg")) as source:
        assert source.pictures == ("a/1.jpg",)


def test_folders_without_pictures_are_listed(tmp_path: Path) -> None:
    names = ("data/cats/1.jpg", "data/dogs/")
    lay(tmp_path / "here", *names)
    for path in (tmp_path / "here", pack(tmp_path / "here.zip", *names)):
        with open_pictures(path) as source:
            assert source.folders == ("data", "data/cats", "data/dogs")
        assert classes(path) == {"cats": ("data/cats/1.jpg",), "dogs": ()}


def test_outer_folders_are_skipped_and_subfolders_belong_to_their_class(tmp_path: Path) -> None:
    names = ("top/SMILEs/negatives/negatives7/1.jpg", "top/SMILEs/positives/positives7/2.jpg", "top/README.md")
    path = pack(tmp_path / "data.zip", *names)
    assert classes(path) == {"negatives": (names[0],), "positives": (names[1],)}


def test_a_class_name_may_be_a_prefix_of_another(tmp_path: Path) -> None:
    path = lay(tmp_path, "cat/1.jpg", "cats/2.jpg")
    assert classes(path) == {"cat": ("cat/1.jpg",), "cats": ("cats/2.jpg",)}


@pytest.mark.parametrize("loose", ["top/cover.png", "cover.png"])
def test_a_picture_outside_the_classes_is_an_error_with_its_name(tmp_path: Path, loose: str) -> None:
    lay(tmp_path, "top/cats/1.jpg", "top/dogs/1.jpg", loose)
    with pytest.raises(DataError, match=loose):
        classes(tmp_path)


def test_pictures_without_folders_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders"):
        classes(lay(tmp_path, "1.jpg"))


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_a_file_that_is_not_a_zip_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.zip"), open_pictures(tmp_path / "data.zip"):
        pass


def test_a_missing_path_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.zip"), open_pictures(tmp_path / "nothing.zip"):
        pass


def test_a_truncated_zip_is_an_error(tmp_path: Path) -> None:
    path = pack(tmp_path / "data.zip", "a/1.jpg", "a/2.jpg")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"data\.zip"), open_pictures(path):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_picture_in_a_zip_is_an_error_with_its_name(tmp_path: Path, method: int) -> None:
    path = pack(tmp_path / "data.zip", "a/" + "x" * 100 + "1.jpg", method=method)
    data = bytearray(path.read_bytes())
    start = 30 + 106  # a local header has 30 bytes and the name (APPNOTE 4.3.7); the content begins behind it
    data[start : start + 4] = bytes(byte ^ 0xFF for byte in data[start : start + 4])
    path.write_bytes(data)
    with open_pictures(path) as source, pytest.raises(DataError, match=r"1\.jpg"):
        source.read(source.pictures[0])


def test_a_broken_link_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    with open_pictures(tmp_path) as source, pytest.raises(DataError, match=r"a\.jpg"):
        source.read("a.jpg")


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.jpg")
    with open_pictures(tmp_path) as source:
        before = source.stamp("a.jpg"), source.stamp("b.jpg")
        status = (tmp_path / "a.jpg").stat()
        os.utime(tmp_path / "a.jpg", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        assert source.stamp("a.jpg") != before[0]
        assert source.stamp("b.jpg") == before[1]


def test_the_stamp_of_a_zipped_picture_is_its_length_and_crc(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("a.jpg", b"123456789")
    with open_pictures(tmp_path / "data.zip") as source:
        assert source.stamp("a.jpg") == "9 cbf43926"  # the check value of CRC-32 (ISO-HDLC)
