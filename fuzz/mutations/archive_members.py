"""Damage to archives, member by member: names, contents, kinds. Checksums and lengths are right again, mostly."""

from __future__ import annotations

import gzip
import io
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
LINK = 0o120777 << 16
KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"7", b"S", b"x", b"L")


@dataclass(frozen=True)
class Member:
    """One member: what it is called, holds, and is (the upper half of a zip's attributes, or a tar's type)."""

    name: str
    content: bytes
    attributes: int = 0
    kind: bytes = tarfile.REGTYPE


def mutate(data: bytes, random: Random) -> bytes:
    """Change the members of a zip or of a gzipped tar, or the archive's own bytes."""
    if random.random() < 0.15:
        return blind.mutate(data, random)
    members = unpacked(data)
    if members is None:
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        members = _change(members, random)
    is_zip = data[:2] == b"PK" if random.random() < 0.98 else data[:2] != b"PK"
    made = zipped(members, random) if is_zip else tarred(members, random)
    return _touch_headers(made, random) if random.random() < 0.25 else made


def unpacked(data: bytes) -> list[Member] | None:
    """The members of an archive; None where it cannot be read."""
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                infos = archive.infolist()
                if sum(info.file_size for info in infos) > 2**20:
                    return None
                return [Member(info.filename, archive.read(info), info.external_attr) for info in infos]
        with gzip.open(io.BytesIO(data)) as opened:
            raw = opened.read(2**20)
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            return [
                Member(i.name, (f.read() if (f := tar.extractfile(i)) else b"") if i.isreg() else b"", 0, i.type)
                for i in tar
            ]
    except Exception:  # damaged in one of many ways
        return None


def zipped(members: list[Member], random: Random) -> bytes:
    """Write a zip, with names that are not allowed, too."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # a name that comes twice is meant
        for member in members:
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename = info.orig_filename = _encodable(member.name)
            info.external_attr = member.attributes
            info.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(info, member.content)
    return file.getvalue()


def tarred(members: list[Member], random: Random) -> bytes:
    """Write a gzipped tar in one of tar's three forms."""
    file = io.BytesIO()
    form = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member in members:
            info = tarfile.TarInfo(_encodable(member.name))
            info.type, info.linkname, info.size = member.kind, "../escaped", len(member.content)
            if not info.isreg():
                info.size = 0
            try:
                archive.addfile(info, io.BytesIO(member.content))
            except ValueError:  # a name that this form cannot hold
                continue
    raw = file.getvalue()
    return gzip.compress(blind.mutate(raw, random) if random.random() < 0.25 else raw, 1, mtime=0)


def _encodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _change(members: list[Member], random: Random) -> list[Member]:
    if not members:
        return [Member("a", b"a")]
    at = random.randrange(len(members))
    one = members[at]
    how = random.randrange(8)
    if how == 0:
        new = [replace(one, name=random.choice((*NAMES, text(random), members[0].name.upper())))]
    elif how in (1, 2, 3):
        new = [replace(one, content=_changed(one, random))]
    elif how == 4:
        new = []
    elif how == 5:
        new = [one, replace(one, name=random.choice((one.name, one.name.swapcase(), *NAMES)))]
    elif how == 6:
        new = [replace(one, attributes=LINK, kind=random.choice(KINDS))]
    else:
        new = [one, replace(one, content=bytes(random.choice((0, 10, 2**16, 2**21))))]
    return members[:at] + new + members[at + 1 :]


def _changed(member: Member, random: Random) -> bytes:
    if member.name.lower().endswith(".json"):
        return json_values.mutate(member.content, random)
    if member.name.endswith(".params"):
        return params_headers.mutate(member.content, random)
    if member.name.endswith(".h5"):
        return h5_objects.mutate(member.content, random)
    return blind.mutate(member.content, random)


def _touch_headers(data: bytes, random: Random) -> bytes:
    """Change a number near one of a zip's signatures: flags, method, sizes, offsets, counts."""
    places = [at for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") for at in _all(data, mark)]
    if not places:
        return blind.mutate(data, random)
    at = random.choice(places) + 4 + 2 * random.randrange(21)
    if random.random() < 0.3:
        return data[:at] + struct.pack("<H", random.choice((0, 1, 8, 9, 12, 14, 93, 99))) + data[at + 2 :]
    return blind.number_at(data, min(at, len(data)), random)


def _all(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return found
