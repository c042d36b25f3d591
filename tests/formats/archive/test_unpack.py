from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import InvalidArchive, ModelFormatError
from app.formats.archive.unpack import Limits, unpack
from tests.formats.archive.archives import LEGACY, MANIFEST, put, read_tree, tarred, zipped

FILES = {"a.py": "print()", "sub/1.py": "# one", ".dot": "", "MAR-INF/MANIFEST.json": MANIFEST}
CONTENT = {name: text.encode() for name, text in FILES.items()}

Make = Callable[[Path, dict[str, str]], Path]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder in a folder for unpacked archives, so that files outside of it are noticed."""
    place = tmp_path / "outer" / "place"
    place.mkdir(parents=True)
    yield place
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["place"]


def refused(archive: Path, place: Path, limits: Limits | None = None) -> str:
    """Unpack an archive that must be refused, check that nothing is left, and return the reason."""
    with pytest.raises(InvalidArchive) as raised:
        unpack(archive, place / "model", limits)
    assert list(place.iterdir()) == []
    return str(raised.value)


@pytest.mark.parametrize("name", ["m.1.mar", "m.1.model", "m.1.zip", "m.1.tar.gz", "m.1"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_is_recognised_by_its_content(tmp_path: Path, place: Path, name: str, make: Make) -> None:
    target = unpack(make(tmp_path / name, FILES), place / "model")
    assert target == place / "model"
    assert read_tree(target) == CONTENT
    assert [path.name for path in place.iterdir()] == ["model"]


def test_the_top_folder_of_a_tgz_of_model_archiver_is_stripped(tmp_path: Path, place: Path) -> None:
    archive = tarred(tmp_path / "m.1.tar.gz", {f"m.1/{name}": text for name, text in FILES.items()})
    assert read_tree(unpack(archive, place / "model")) == CONTENT


def test_a_top_folder_named_like_its_subfolder_is_stripped(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.mar", {"m/m/a.py": "", "m/b.py": ""})
    assert set(read_tree(unpack(archive, place / "model"))) == {"m/a.py", "b.py"}


def test_an_old_archive_with_its_manifest_one_folder_down_is_moved_up(tmp_path: Path, place: Path) -> None:
    files = {"net/MANIFEST.json": json.dumps(LEGACY), "net/signature.json": "{}", "readme.txt": ""}
    found = read_tree(unpack(zipped(tmp_path / "net.model", files), place / "model"))
    assert set(found) == {"MANIFEST.json", "signature.json", "readme.txt"}


def test_files_added_by_macos_are_skipped(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.zip", {"m/a.py": "", "__MACOSX/m/._a.py": "x", "__MACOSX/._m": ""})
    assert set(read_tree(unpack(archive, place / "model"))) == {"a.py"}


def test_folder_entries_create_folders(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.mar", {"empty/": "", "sub/": "", "sub/1.py": "", "./b.py": ""})
    target = unpack(archive, place / "model")
    assert (target / "empty").is_dir()
    assert set(read_tree(target)) == {"sub/1.py", "b.py"}


def test_permissions_and_owners_of_an_archive_are_ignored(tmp_path: Path, place: Path) -> None:
    info = zipfile.ZipInfo("a.sh")
    info.external_attr = (stat.S_IFREG | 0o6777) << 16
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as archive:
        archive.writestr(info, "")
    plain = place.parent.parent / "plain"
    plain.touch()
    assert (unpack(tmp_path / "m.mar", place / "model") / "a.sh").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x", "leads outside"),
        ("../place2/x", "leads outside"),
        ("a/../../x", "leads outside"),
        ("a/..", "leads outside"),
        ("C:/x", "absolute path"),
        ("c:x", "absolute path"),
        ("..\\x", "backslash"),
        ("a\\b", "backslash"),
        ("a\nb", "characters"),
        ("a\x1b[2Jb", "characters"),
        ("x" * 256, "255 bytes"),
        ("d/" * 600 + "x", "1,201 characters"),
    ],
)
def test_an_unsafe_name_is_refused(tmp_path: Path, place: Path, make: Make, name: str, reason: str) -> None:
    assert reason in refused(make(tmp_path / "m.mar", {"a.py": "", name: "x"}), place)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("start", ["", "/"])
def test_an_absolute_path_is_refused_and_writes_nothing(tmp_path: Path, place: Path, make: Make, start: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert "absolute path" in refused(make(tmp_path / "m.mar", {f"{start}{elsewhere}": "x"}), place)
    assert not elsewhere.exists()


def test_a_name_with_a_null_byte_is_refused(tmp_path: Path, place: Path) -> None:
    """The standard library truncates it there, so that one name is checked and another one used."""
    zipped(tmp_path / "m.mar", {"aXb.py": ""})
    data = (tmp_path / "m.mar").read_bytes().replace(b"aXb.py", b"a\0b.py")
    (tmp_path / "m.mar").write_bytes(data)
    assert "characters" in refused(tmp_path / "m.mar", place)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("one", "other"),
    [("a.py", "./a.py"), ("a.py", "A.py"), ("a", "a/b"), ("a/b", "a"), ("Sub/1", "sub/2"), ("\u00e9", "e\u0301")],
)
def test_two_entries_for_one_path_are_refused(tmp_path: Path, place: Path, make: Make, one: str, other: str) -> None:
    assert "one path" in refused(make(tmp_path / "m.mar", {one: "1", other: "2"}), place)


def test_the_same_name_twice_is_refused(tmp_path: Path, place: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as archive:
        archive.writestr("a.py", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.py", "2")
    assert "one path" in refused(tmp_path / "m.mar", place)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, place: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(tmp_path / "m.mar", place)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, place: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("m/link")
    info.type, info.linkname = kind, "../../target"
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("m/a.py"))
        archive.addfile(info)
    assert "link or a device" in refused(tmp_path / "m.tar.gz", place)


def overlapping(path: Path, entries: int, size: int) -> Path:
    """Return a zip whose entries are all one: each unpacks to ``size`` zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(bytes(size)) + deflate.flush()
    sizes = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, zlib.crc32(bytes(size)), len(data), size)
    kernel = b"PK\x03\x04" + sizes + struct.pack("<HH", 1, 0) + b"a" + data
    central = b"".join(
        b"PK\x01\x02" + struct.pack("<H", 20) + sizes + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"a"
        for _ in range(entries)
    )
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, entries, entries, len(central), len(kernel), 0)
    path.write_bytes(kernel + central + end)
    return path


def test_ten_gigabytes_in_a_few_kilobytes_are_refused(tmp_path: Path, place: Path) -> None:
    archive = overlapping(tmp_path / "m.mar", 1_000, 10_000_000)
    assert archive.stat().st_size < 60_000
    with zipfile.ZipFile(archive) as opened:
        assert sum(info.file_size for info in opened.infolist()) == 10_000_000_000
    assert "overlap" in refused(archive, place)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_bomb_is_stopped_by_its_unpacked_size(tmp_path: Path, place: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "m.mar", {"a.params": bytes(2_000_000)})
    assert archive.stat().st_size < 20_000
    limits = Limits(free_bytes=1_000_000, ratio=50)
    assert "50 times" in refused(archive, place, limits)
    assert unpack(archive, place / "model", Limits(free_bytes=1_000_000, ratio=1_000)).is_dir()


def test_a_bomb_with_a_false_header_is_refused(tmp_path: Path, place: Path) -> None:
    """The header says 10 bytes; 1,000,000 come."""
    archive = zipped(tmp_path / "m.mar", {"a": bytes(1_000_000)})
    data = archive.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))
    archive.write_bytes(data)
    assert "damaged" in refused(archive, place)


def test_sparse_files_in_a_tar_cannot_bypass_the_limits(tmp_path: Path, place: Path) -> None:
    header = tarfile.TarInfo("holes")
    header.type = tarfile.GNUTYPE_SPARSE
    header.size = 0
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"00777777777\0"  # the size with its holes: 1 GB
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    with gzip.open(tmp_path / "m.tar.gz", "wb") as file:
        file.write(bytes(block) + bytes(1024))
    assert "link or a device" in refused(tmp_path / "m.tar.gz", place)


def test_a_huge_name_is_refused_before_it_is_read(tmp_path: Path, place: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(tmp_path / "m.tar.gz", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    assert "65,536 bytes" in refused(tmp_path / "m.tar.gz", place)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(entries=2), "more than 2 entries"),
        (Limits(entry_bytes=9), "one of its entries holds more than 9 bytes"),
        (Limits(total_bytes=19), "holds more than 19 bytes"),
    ],
)
def test_too_large_archives_are_refused(tmp_path: Path, place: Path, make: Make, limits: Limits, reason: str) -> None:
    archive = make(tmp_path / "m.mar", {name: "0123456789" for name in "abc"})
    assert reason in refused(archive, place, limits)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_truncated_anywhere_is_refused(tmp_path: Path, place: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "m.mar", {"a.py": "print()", "b.params": os.urandom(2_000)})
    data = archive.read_bytes()
    for length in [*range(0, len(data) - 1, 97), len(data) - 1]:
        archive.write_bytes(data[:length])
        refused(archive, place)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_changed_byte_in_the_content_is_detected(tmp_path: Path, place: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "m.mar", {"b.params": os.urandom(2_000)})
    data = bytearray(archive.read_bytes())
    data[1_000] ^= 1
    archive.write_bytes(data)
    assert "damaged" in refused(archive, place)


def test_a_tar_with_a_damaged_header_in_the_middle_is_refused(tmp_path: Path, place: Path) -> None:
    """The standard library reads such a header as the end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
        archive.addfile(tarfile.TarInfo("b"))
    data = bytearray(buffer.getvalue())
    data[512] ^= 1
    with gzip.open(tmp_path / "m.tar.gz", "wb") as file:
        file.write(data)
    assert "damaged" in refused(tmp_path / "m.tar.gz", place)


def test_a_tar_truncated_between_entries_is_refused(tmp_path: Path, place: Path) -> None:
    with gzip.open(tmp_path / "m.tar.gz", "wb") as file:
        file.write(tarfile.TarInfo("a").tobuf())
    assert "cut short" in refused(tmp_path / "m.tar.gz", place)


def test_an_encrypted_entry_is_refused(tmp_path: Path, place: Path) -> None:
    zipped(tmp_path / "m.mar", {"a.py": "x"})
    data = bytearray((tmp_path / "m.mar").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the central directory's flags
    (tmp_path / "m.mar").write_bytes(data)
    assert "pack it without a password" in refused(tmp_path / "m.mar", place)


def test_an_unusual_compression_method_is_refused(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.mar", {"a.py": bytes(100_000)}, zipfile.ZIP_BZIP2)
    assert "neither stored nor deflated" in refused(archive, place)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89PNG\r\n", b"Rar!\x1a\x07\x00", b"\x1f\x8b", b"BZh9"])
def test_files_that_are_not_archives_are_refused(tmp_path: Path, place: Path, content: bytes) -> None:
    (tmp_path / "m.mar").write_bytes(content)
    assert str(tmp_path / "m.mar") in refused(tmp_path / "m.mar", place)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_empty_archive_is_refused(tmp_path: Path, place: Path, make: Make) -> None:
    refused(make(tmp_path / "m.mar", {}), place)


def test_a_missing_archive_and_a_folder_are_refused(tmp_path: Path, place: Path) -> None:
    assert "is not a file" in refused(tmp_path / "none.mar", place)
    assert "is not a file" in refused(tmp_path, place)


def test_existing_folders_and_links_are_never_overwritten(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.mar", FILES)
    put(place / "model", {"mine.txt": "mine"})
    with pytest.raises(ModelFormatError, match="is there already"):
        unpack(archive, place / "model")
    assert read_tree(place) == {"model/mine.txt": b"mine"}
    shutil.rmtree(place / "model")
    (place / "model").symlink_to(place.parent.parent)
    with pytest.raises(ModelFormatError, match="is there already"):
        unpack(archive, place / "model")


def test_an_unwritable_folder_is_not_an_error_of_the_archive(tmp_path: Path, place: Path) -> None:
    archive = zipped(tmp_path / "m.mar", FILES)
    with pytest.raises(ModelFormatError, match="cannot be written") as raised:
        unpack(archive, place / "missing" / "model")
    assert not isinstance(raised.value, InvalidArchive)
