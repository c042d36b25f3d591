"""Unpacking of archives to model folders, with every name checked and every size bounded.

An archive's first bytes determine its kind; its name does not matter. Links, devices and the like, encryption, and
compression methods that MMS never wrote are refused.
"""

from __future__ import annotations

import gzip
import io
import itertools
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, TypeVar, cast
from uuid import uuid4

from app.errors import InvalidArchive, ModelFormatError, of_system
from app.formats.archive.manifest import CURRENT, find_legacy_manifest
from app.formats.archive.safe_paths import PathRegistry
from app.utils.files import refuse_pointer, replacing
from app.utils.progress import Progress, progress


@dataclass(frozen=True)
class Limits:
    """Limits of an archive: entries, total bytes, bytes of one entry, and unpacked bytes for each packed byte.

    The ratio applies only beyond ``free_bytes``. Trained weights hardly shrink; deflate shrinks a run of zeros
    1,000-fold.
    """

    total_bytes: int = 4 * 2**30
    entry_bytes: int = 4 * 2**30
    entries: int = 10_000
    ratio: int = 100
    free_bytes: int = 64 * 2**20


class SizeLimiter:
    """A counter of the bytes unpacked from an archive of ``packed`` bytes."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self._limits = limits
        self._packed = packed
        self._entries = 0
        self._entry = 0
        self._total = 0

    def begin_entry(self) -> None:
        """Begin another entry.

        :raises InvalidArchive: if there are too many entries.
        """
        self._entries += 1
        self._entry = 0
        if self._entries > self._limits.entries:
            raise InvalidArchive(f"it has more than {self._limits.entries:,} entries")

    def add(self, count: int) -> None:
        """Count further bytes of the entry.

        :raises InvalidArchive: if a limit is exceeded.
        """
        self._entry += count
        self._total += count
        if self._entry > self._limits.entry_bytes:
            raise InvalidArchive(f"one of its entries holds more than {self._limits.entry_bytes:,} bytes")
        if self._total > self._limits.total_bytes:
            raise InvalidArchive(f"it holds more than {self._limits.total_bytes:,} bytes")
        if self._total > max(self._limits.free_bytes, self._limits.ratio * self._packed):
            raise InvalidArchive(
                f"its {self._packed:,} bytes unpack to more than {self._limits.ratio} times as many: no model does"
            )


T = TypeVar("T")
PIECE = 2**20
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
LONGEST_READ = 32 * 2**20
"""The largest read of a zip's own tables, which are read in one piece."""
LONGEST_NAME = 64 * 2**10
ZIP_HEADER, TAR_BLOCK = 30, 512
EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
ENCRYPTED = 0x1

DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)
"""Exceptions that the standard library raises on damaged archives."""


@dataclass(frozen=True)
class Entry:
    """An entry of an archive: its name as written, and a function that yields its content (None for a folder)."""

    name: str
    pieces: Callable[[], Iterator[bytes]] | None


def read_entries(path: Path, limits: Limits) -> Generator[Entry, None, None]:
    """Yield the entries of an archive. Each entry must be read before the next is requested.

    :raises InvalidArchive: if the file is no archive, holds a refused kind of entry, or is damaged; reading an entry
        raises it too.
    """
    return _refusing_damage(_entries(path, limits))


def _refusing_damage(items: Iterator[T]) -> Generator[T, None, None]:
    try:
        yield from items
    except DAMAGE as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise InvalidArchive(f"it is damaged or cannot be read: {reason}") from None


def _entries(path: Path, limits: Limits) -> Iterator[Entry]:
    with path.open("rb") as file:
        start = file.read(4)
    if start in ZIP:
        yield from _zip_entries(path)
    elif start.startswith(GZIP):
        yield from _tar_entries(path, limits)
    else:
        raise InvalidArchive("it is neither a zip (.mar, .model) nor a gzipped tar (.tar.gz)")


def _entry(name: str, is_folder: bool, open_content: Callable[[], IO[bytes]]) -> Entry:
    return Entry(name, None if is_folder else lambda: _refusing_damage(_pieces(open_content)))


def _pieces(open_content: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with open_content() as content:
        while piece := content.read(PIECE):
            yield piece


class _Tables(io.FileIO):
    """A zip file that refuses very long reads: a huge list of entries could fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LONGEST_READ:
            raise InvalidArchive(f"its list of entries is longer than {LONGEST_READ:,} bytes")
        return super().read(size) or b""


def _zip_entries(path: Path) -> Iterator[Entry]:
    with _Tables(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_overlap(infos)
        for info in infos:
            _check_zip_entry(info)
            yield _entry(info.orig_filename, info.is_dir(), partial(archive.open, info))


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes, because overlaps turn a few kilobytes into gigabytes."""
    placed = sorted(infos, key=lambda info: info.header_offset)
    for item, following in itertools.pairwise(placed):
        if item.header_offset + ZIP_HEADER + item.compress_size > following.header_offset:
            raise InvalidArchive(f"its entries {item.filename!r} and {following.filename!r} overlap")


def _check_zip_entry(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidArchive(f"its entry {info.filename!r} is a link or a device; only files and folders are read")
    if info.flag_bits & ENCRYPTED:
        raise InvalidArchive(f"its entry {info.filename!r} is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidArchive(f"its entry {info.filename!r} is neither stored nor deflated; pack it with deflate")


class _CountingReader(io.RawIOBase):
    """A reader of a gzip's content that counts the unpacked bytes."""

    def __init__(self, file: gzip.GzipFile, meter: SizeLimiter) -> None:
        self._file = file
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        piece = self._file.read(len(buffer))
        self._meter.add(len(piece))
        buffer[: len(piece)] = piece
        return len(piece)


class _Header(tarfile.TarInfo):
    """A tar header. A damaged one raises an error, whereas tarfile treats it as the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < TAR_BLOCK:
            raise InvalidArchive("it is cut short: the mark at its end is missing")
        try:
            made = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise  # the end mark
            raise InvalidArchive(f"it is damaged: {error}") from None
        if made.type in EXTENSIONS and made.size > LONGEST_NAME:
            raise InvalidArchive(f"one of its names is longer than {LONGEST_NAME:,} bytes")
        return made


def _tar_entries(path: Path, limits: Limits) -> Iterator[Entry]:
    whole = SizeLimiter(replace(limits, entry_bytes=limits.total_bytes), path.stat().st_size)
    with gzip.open(path) as unzipped:
        stream = _CountingReader(unzipped, whole)
        with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_Header) as archive:
            for info in archive:
                _check_tar_entry(info)
                yield _entry(info.name, info.isdir(), partial(_open_tar_entry, archive, info))
        while stream.read(PIECE):  # verifies gzip's checksum, which is at the end
            pass


def _check_tar_entry(info: tarfile.TarInfo) -> None:
    if not (info.isdir() or info.isreg()) or info.issparse():
        raise InvalidArchive(f"its entry {info.name!r} is a link or a device; only files and folders are read")


def _open_tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(info)
    assert opened is not None  # a regular file
    return opened


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a ``.mar``, ``.model``, ``.zip`` or ``.tar.gz`` into a new folder.

    A single folder around all files, as in model-archiver's tgz, is removed. Files get the system's default
    permissions, whatever the archive says. A failure leaves nothing behind.

    :param target: the new folder, which must not exist; its parent must exist.
    :returns: ``target``.
    :raises InvalidArchive: if the archive is damaged, holds unsafe names or kinds of entries, or exceeds the limits.
    :raises ModelFormatError: if the folder cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise ModelFormatError(f"{target} is there already. Remove it, or name another folder")
    if not archive.is_file():
        raise InvalidArchive(f"{archive} is not a file")
    refuse_pointer(archive)
    try:
        with replacing(target) as partial:
            partial.mkdir()
            _write_all(archive, partial, limits or Limits())
            _lift(partial)
    except InvalidArchive as error:
        raise InvalidArchive(f"{archive} is not a usable model archive: {error}") from None
    except OSError as error:
        if problem := of_system(error):
            raise problem from None
        raise ModelFormatError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def _write_all(archive: Path, folder: Path, limits: Limits) -> None:
    paths, meter, files = PathRegistry(), SizeLimiter(limits, archive.stat().st_size), 0
    with closing(read_entries(archive, limits)) as entries, progress(f"unpacking {archive.name}", None, "B") as bar:
        for entry in entries:
            meter.begin_entry()
            path = paths.claim(entry.name, is_folder=entry.pieces is None)
            if path is not None and entry.pieces is None:
                (folder / path).mkdir(parents=True, exist_ok=True)
            elif path is not None and entry.pieces is not None:
                _write(entry.pieces(), folder / path, meter, bar)
                files += 1
    if not files:
        raise InvalidArchive("it holds no file")


def _write(pieces: Iterator[bytes], path: Path, meter: SizeLimiter, bar: Progress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for piece in pieces:
            meter.add(len(piece))
            file.write(piece)
            bar.advance(len(piece))


def _lift(folder: Path) -> None:
    """Move the model up if it lies one folder down: in the only folder, or in the folder of a manifest of MMS 0.x."""
    inner = _inner(folder)
    if inner is None:
        return
    inner = inner.rename(folder / f".{uuid4().hex}")  # avoids a clash with its own content
    for path in inner.iterdir():
        if (folder / path.name).exists():
            raise InvalidArchive(f"it has {path.name!r} both beside its manifest and above")
        path.rename(folder / path.name)
    inner.rmdir()


def _inner(folder: Path) -> Path | None:
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name != CURRENT.parent.name:
        return inside[0]
    manifest = None if (folder / CURRENT).is_file() else find_legacy_manifest(folder)
    return manifest.parent if manifest is not None and manifest.parent != folder else None
