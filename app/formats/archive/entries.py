"""The entries of a zip or of a gzipped tar, one after the other, each a plain file or a folder.

An archive is known by its first bytes; what it is called does not matter. Links, devices and the like, passwords, and
compression that MMS never wrote are refused.
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, TypeVar, cast

from app.errors import InvalidArchive
from app.formats.archive.limits import Limits, Meter

T = TypeVar("T")
PIECE = 2**20
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
LONGEST_READ = 32 * 2**20
"""Of a zip's own tables: they are read in one piece."""
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
"""What the standard library raises on damaged archives."""


@dataclass(frozen=True)
class Entry:
    """One entry: its name as it is written, and what gives its content, piece by piece; None for a folder."""

    name: str
    pieces: Callable[[], Iterator[bytes]] | None


def read_entries(path: Path, limits: Limits) -> Generator[Entry, None, None]:
    """Go through an archive. Each entry must be read before the next is asked for.

    :raises InvalidArchive: where it is no archive, holds what is refused, or is damaged; from the entries too.
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
        yield from _zipped(path)
    elif start.startswith(GZIP):
        yield from _tarred(path, limits)
    else:
        raise InvalidArchive("it is neither a zip (.mar, .model) nor a gzipped tar (.tar.gz)")


def _entry(name: str, is_folder: bool, open_content: Callable[[], IO[bytes]]) -> Entry:
    return Entry(name, None if is_folder else lambda: _refusing_damage(_pieces(open_content)))


def _pieces(open_content: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with open_content() as content:
        while piece := content.read(PIECE):
            yield piece


class _Tables(io.FileIO):
    """A zip's file, of which nothing very long is read at once: its list of entries could fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LONGEST_READ:
            raise InvalidArchive(f"its list of entries is longer than {LONGEST_READ:,} bytes")
        return super().read(size) or b""


def _zipped(path: Path) -> Iterator[Entry]:
    with _Tables(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_overlap(infos)
        for info in infos:
            _check_zipped(info)
            yield _entry(info.orig_filename, info.is_dir(), partial(archive.open, info))


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes: that is how a few kilobytes become gigabytes."""
    placed = sorted(infos, key=lambda info: info.header_offset)
    for one, following in itertools.pairwise(placed):
        if one.header_offset + ZIP_HEADER + one.compress_size > following.header_offset:
            raise InvalidArchive(f"its entries {one.filename!r} and {following.filename!r} overlap")


def _check_zipped(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidArchive(f"its entry {info.filename!r} is a link or a device; only files and folders are read")
    if info.flag_bits & ENCRYPTED:
        raise InvalidArchive(f"its entry {info.filename!r} is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidArchive(f"its entry {info.filename!r} is neither stored nor deflated; pack it with deflate")


class _Counted(io.RawIOBase):
    """What a gzip holds, counted as it comes out."""

    def __init__(self, file: gzip.GzipFile, meter: Meter) -> None:
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
    """A tar's header. A damaged one is an error, where tarfile takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < TAR_BLOCK:
            raise InvalidArchive("it is cut short: the mark at its end is missing")
        try:
            made = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise  # the mark
            raise InvalidArchive(f"it is damaged: {error}") from None
        if made.type in EXTENSIONS and made.size > LONGEST_NAME:
            raise InvalidArchive(f"one of its names is longer than {LONGEST_NAME:,} bytes")
        return made


def _tarred(path: Path, limits: Limits) -> Iterator[Entry]:
    whole = Meter(replace(limits, entry_bytes=limits.total_bytes), path.stat().st_size)
    with gzip.open(path) as unzipped:
        stream = _Counted(unzipped, whole)
        with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_Header) as archive:
            for info in archive:
                _check_tarred(info)
                yield _entry(info.name, info.isdir(), partial(_open_tarred, archive, info))
        while stream.read(PIECE):  # gzip's checksum is at its end
            pass


def _check_tarred(info: tarfile.TarInfo) -> None:
    if not (info.isdir() or info.isreg()) or info.issparse():
        raise InvalidArchive(f"its entry {info.name!r} is a link or a device; only files and folders are read")


def _open_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(info)
    assert opened is not None  # a plain file
    return opened
