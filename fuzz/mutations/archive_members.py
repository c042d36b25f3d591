"""Mutations of archives, member by member: names, contents and types, mostly with correct checksums and lengths."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import warnings
import zipfile
from dataclasses import dataclass, replace
from random import Random

from fuzz.mutations import blind, h5_objects, json_values, params_headers
from fuzz.mutations.values import text

NAMES = (
    *("../escaped", "a/../../escaped", "/tmp/escaped", "C:/escaped", "..\\escaped", "./a", "a//b", "a/./b", "a/", "."),
    *("MANIFEST.JSON", "mar-inf/manifest.json", "MAR-INF", "MAR-INF/MANIFEST.json/x", "__MACOSX/._a", ".hidden"),
    *("net-symbol.json", "net-0001.params", "net-99999999999999999999.params", "net.h5", "net.onnx", "Net-symbol.json"),
    *("e\u0301.txt", "\u00e9.txt", "synset.txt", "signature.json", "d/MANIFEST.json", "d/e/f/g/h/i/j/k", "con", "a\0b"),
)
LINK_ATTRIBUTES = 0o120777 << 16
TAR_TYPES = (tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"7", b"S", b"x", b"L")
ZIP_SIGNATURES = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Member:
    """A member of an archive, with its attributes in a zip and its type in a tar."""

    name: str
    content: bytes
    attributes: int = 0
    tar_type: bytes = tarfile.REGTYPE


def mutate(data: bytes, random: Random) -> bytes:
    """Damage the members of a zip or of a gzipped tar, or the bytes of the archive itself."""
    if random.random() < 0.15:
        return blind.mutate(data, random)
    members = _read_members(data)
    if members is None:
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        members = _mutate_members(members, random)
    is_zip = data[:2] == b"PK" if random.random() < 0.98 else data[:2] != b"PK"
    archive = write_zip(members, random) if is_zip else write_tgz(members, random)
    return _mutate_zip_header(archive, random) if random.random() < 0.25 else archive


def _read_members(data: bytes) -> list[Member] | None:
    """Return the members of an archive, or None if it cannot be read."""
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                infos = archive.infolist()
                if sum(info.file_size for info in infos) > 2**20:
                    return None
                return [Member(info.filename, archive.read(info), info.external_attr) for info in infos]
        with gzip.open(io.BytesIO(data)) as stream:
            raw = stream.read(2**20)
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            return [
                Member(i.name, (f.read() if (f := tar.extractfile(i)) else b"") if i.isreg() else b"", 0, i.type)
                for i in tar
            ]
    except Exception:  # zipfile and tarfile raise many types on damaged files
        return None


def write_zip(members: list[Member], random: Random) -> bytes:
    """Return a zip, whose names may be invalid."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # duplicate names are intended
        for member in members:
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename = info.orig_filename = _encodable(member.name)
            info.external_attr = member.attributes
            info.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(info, member.content)
    return file.getvalue()


def write_tgz(members: list[Member], random: Random) -> bytes:
    """Return a gzipped tar in one of the three tar formats."""
    file = io.BytesIO()
    tar_format = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as archive:
        for member in members:
            info = tarfile.TarInfo(_encodable(member.name))
            info.type, info.linkname, info.size = member.tar_type, "../escaped", len(member.content)
            if not info.isreg():
                info.size = 0
            try:
                archive.addfile(info, io.BytesIO(member.content))
            except ValueError:  # a name that this format cannot hold
                continue
    raw = file.getvalue()
    return gzip.compress(blind.mutate(raw, random) if random.random() < 0.25 else raw, 1, mtime=0)


def _encodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _mutate_members(members: list[Member], random: Random) -> list[Member]:
    if not members:
        return [Member("a", b"a")]
    index = random.randrange(len(members))
    member = members[index]
    mutation = random.randrange(8)
    if mutation == 0:
        new = [replace(member, name=random.choice((*NAMES, text(random), members[0].name.upper())))]
    elif mutation in (1, 2, 3):
        new = [replace(member, content=_mutate_content(member, random))]
    elif mutation == 4:
        new = []
    elif mutation == 5:
        new = [member, replace(member, name=random.choice((member.name, member.name.swapcase(), *NAMES)))]
    elif mutation == 6:
        new = [replace(member, attributes=LINK_ATTRIBUTES, tar_type=random.choice(TAR_TYPES))]
    else:
        new = [member, replace(member, content=bytes(random.choice((0, 10, 2**16, 2**21))))]
    return members[:index] + new + members[index + 1 :]


def _mutate_content(member: Member, random: Random) -> bytes:
    if member.name.lower().endswith(".json"):
        return json_values.mutate(member.content, random)
    if member.name.endswith(".params"):
        return params_headers.mutate(member.content, random)
    if member.name.endswith(".h5"):
        return h5_objects.mutate(member.content, random)
    return blind.mutate(member.content, random)


def _mutate_zip_header(data: bytes, random: Random) -> bytes:
    """Damage a number after a signature of a zip: flags, method, sizes, offsets or counts."""
    headers = [match.start() for mark in ZIP_SIGNATURES for match in re.finditer(mark, data)]
    if not headers:
        return blind.mutate(data, random)
    offset = random.choice(headers) + 4 + 2 * random.randrange(21)
    if random.random() < 0.3:
        return data[:offset] + struct.pack("<H", random.choice((0, 1, 8, 9, 12, 14, 93, 99))) + data[offset + 2 :]
    return blind.overwrite_number(data, min(offset, len(data)), random)
