"""Data sets, prepared once: pictures are fetched, decoded, turned into tensors, split, and stored as arrays.

``<datasets_dir>/<name>/`` holds the download (``<name>-<hash of the URL>.zip``) and the folder ``prepared``:
``input-<key>.npy`` for every input, float32 as returned by ``to_tensor``; ``classes.npy``, int64; and ``index.json``
with everything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from app.errors import DataError
from app.formats.pictures import PictureSource, open_pictures
from app.training.reading import LabelledPicture, check_classes, find_labelled, read_images
from app.types import FloatArray, Preprocess
from app.utils.download import download, is_url
from app.utils.files import replacing, replacing_folder
from app.utils.progress import echo
from app.vision.duplicates import SIDE, Group, contradicting, near_identical, thumbnail
from app.vision.preprocess import to_tensor

_BLOCK = 256


class NpyWriter:
    """A writer of float32 rows of one shape, appended until ``close``.

    :param most: limit on the number of rows; the first row allocates space for all of them.
    :raises OSError: by ``append`` and ``close``, if the disk is full or the file is not writable.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._count = 0
        self._rows: FloatArray = np.empty((0,), np.float32)

    def append(self, row: FloatArray) -> None:
        if not self._count:
            self._rows = _create(self._path, (self._most, *row.shape))
        self._rows[self._count] = row
        self._count += 1

    def close(self) -> None:
        """Truncate the file to the rows written, of which there must be at least one."""
        if self._count == self._most:
            return
        with replacing(self._path) as beside:
            short = _create(beside, (self._count, *self._rows.shape[1:]))
            for start in range(0, self._count, _BLOCK):
                end = min(start + _BLOCK, self._count)
                short[start:end] = self._rows[start:end]


def _create(path: Path, shape: tuple[int, ...]) -> FloatArray:
    rows: FloatArray = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:  # a full disk is an error now; later it would kill the process by SIGBUS
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return rows


PartName = Literal["train", "validation", "test"]

PARTS: tuple[PartName, ...] = ("train", "validation", "test")
VALIDATION_SHARE = 0.1


def part_of(name: str, test_share: float) -> PartName:
    """Return the part of a picture, a function of its file's name alone.

    So the part is the same on every machine, and unaffected by added or removed pictures.

    :param name: the file's name without its folders.
    :param test_share: share of the pictures, 0-1, that is reserved for the final test; a tenth of all is for
        validation.
    """
    encoded = name.encode("utf-8", "surrogateescape")  # file names may contain arbitrary bytes
    position = int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "validation" if position < test_share + VALIDATION_SHARE else "train"


def split(names: Sequence[str], groups: Iterable[Sequence[int]], test_share: float) -> tuple[PartName, ...]:
    """Return the part of every picture.

    Near-identical pictures stay together, or the network would be tested on pictures that it was trained on: all
    pictures of a group get the part of the picture whose file's name comes first in the alphabet.

    :param names: of the pictures, with or without folders.
    :param groups: positions in ``names``; the pictures of one group are near-identical.
    """
    bases = [PurePosixPath(name).name for name in names]
    parts = [part_of(base, test_share) for base in bases]
    for group in groups:
        together = part_of(min(bases[member] for member in group), test_share)
        for member in group:
            parts[member] = together
    return tuple(parts)


Classes = NDArray[np.int64]

FORMAT = 1  # must be raised whenever the same pictures give other arrays or parts
_READY = "prepared"


@dataclass(frozen=True)
class DataSpec:
    """The specification of a data set.

    ``folders`` maps the names of folders to class numbers, ``labels`` names the classes. ``inputs`` maps a key
    (``64x64``) to a network's preprocessing and its input's shape, with the batch axis. ``test`` is the share of the
    pictures, 0-1, that is reserved for the final test. ``published`` is the publisher's count of pictures per label, if
    known. ``within`` is a folder that pictures must lie in, if the source has a folder of that name: of ``train`` and
    ``validation`` side by side, only the first is used for training.
    """

    name: str
    folders: Mapping[str, int]
    labels: tuple[str, ...]
    inputs: Mapping[str, tuple[Preprocess, tuple[int, ...]]]
    test: float
    published: Mapping[str, int] | None = None
    within: str = ""


@dataclass(frozen=True)
class Part:
    """Pictures (N, …), float32 as a network's input, the numbers of their classes (N,), and their names."""

    pictures: FloatArray
    classes: Classes
    names: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A prepared data set of N pictures, in the order of their names.

    ``arrays`` maps an input's key to its pictures (N, …), which are read from the disk on demand. ``groups`` are the
    positions of near-identical pictures, ``unreadable`` the names of skipped pictures. ``fingerprint`` changes with the
    pictures and with the specification.
    """

    name: str
    source: str
    fingerprint: str
    names: tuple[str, ...]
    parts: tuple[PartName, ...]
    classes: Classes
    arrays: Mapping[str, FloatArray]
    groups: tuple[Group, ...]
    unreadable: tuple[str, ...]

    def part(self, part: PartName, key: str) -> Part:
        """Return the pictures of one part, for one input, in memory.

        :raises KeyError: if no input has that key.
        """
        rows = np.flatnonzero([of == part for of in self.parts])
        pictures = np.asarray(self.arrays[key][rows])
        return Part(pictures, self.classes[rows], tuple(self.names[row] for row in rows))


def prepare(spec: DataSpec, source: str | Path, datasets_dir: Path) -> Dataset:
    """Fetch, read and split a data set, or reuse one prepared from the same pictures.

    A data set is prepared completely or not at all. If several processes need it, one prepares it and the others wait.

    :param source: a URL of a zip, which is fetched once and stored; or a zip or a folder. A zip and its folder give the
        same data set.
    :raises DataError: if the source cannot be fetched or read, more than 1 % of its pictures cannot be read, or a class
        has no picture in some part.
    """
    folder = datasets_dir / spec.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / ".lock", spec.name):
            path = _fetch_source(str(source), folder) if is_url(str(source)) else Path(source)
            with open_pictures(path) as pictures:
                dataset = _prepare_pictures(spec, str(source), pictures, datasets_dir)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}. Make room, or let Dimple write there") from None
    for line in summary(dataset, spec):
        echo(line)
    return dataset


def load(name: str, datasets_dir: Path) -> Dataset | None:
    """Open a data set that ``prepare`` has written; return None if there is none, or it is damaged."""
    folder = datasets_dir / name / _READY
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            return None
        dataset = Dataset(
            name=name,
            source=index["source"],
            fingerprint=index["fingerprint"],
            names=tuple(index["names"]),
            parts=tuple(index["parts"]),
            classes=np.load(folder / "classes.npy"),
            arrays={key: np.load(folder / f"input-{key}.npy", mmap_mode="r") for key in index["inputs"]},
            groups=tuple(tuple(group) for group in index["groups"]),
            unreadable=tuple(index["unreadable"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    lengths = {len(rows) for rows in (dataset.parts, dataset.classes, *dataset.arrays.values())}
    return dataset if lengths == {len(dataset.names)} else None


def read_all(source: Path, folders: Mapping[str, int], preprocess: Preprocess, shape: tuple[int, ...]) -> Part:
    """Read a whole zip or folder into memory, without a split, to evaluate a network on its pictures.

    :param folders: name of a folder -> number of its class.
    :raises DataError: if the source or more than 1 % of its pictures cannot be read, or a class has no picture.
    """
    with open_pictures(source) as pictures:
        read = [
            (picture, to_tensor(image, preprocess, shape))
            for picture, image in read_images(pictures, find_labelled(pictures, folders))
        ]
        check_classes(pictures, folders, {picture.number for picture, _ in read}, " that can be read")
    return Part(
        np.concatenate([tensor for _, tensor in read]),
        np.array([picture.number for picture, _ in read], np.int64),
        tuple(picture.name for picture, _ in read),
    )


def summary(dataset: Dataset, spec: DataSpec) -> list[str]:
    """Return a summary of a data set, in a few lines."""
    counts = np.bincount(dataset.classes, minlength=len(spec.labels)).tolist()
    each = dict(zip(spec.labels, counts, strict=True))
    line = f"{len(dataset.names):,} pictures: " + ", ".join(f"{count:,} {label}" for label, count in each.items())
    if spec.published is not None and dict(spec.published) != each:
        line += f"; the published set has {sum(spec.published.values()):,}"
    lines = [line]
    if dataset.unreadable:
        lines.append(f"{_number(len(dataset.unreadable), 'picture')} could not be read, {dataset.unreadable[0]} first")
    if dataset.groups:
        both = len(contradicting(dataset.groups, dataset.classes))
        lines.append(
            f"{_number(len(dataset.groups), 'group')} of near-identical pictures, each kept in one part; "
            f"{both} of them labelled both ways"
        )
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


@contextlib.contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"another process prepares {name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, even if the process is killed
        yield


def _fetch_source(url: str, folder: Path) -> Path:
    path = folder / f"{folder.name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}.zip"
    if not path.exists():
        download(url, path)
        if not zipfile.is_zipfile(path):  # an error page, or a truncated download of unknown length
            path.unlink()
            raise DataError(
                f"The download from {url} is not a complete zip file. Try again, or give --source a local copy."
            )
    return path


def _prepare_pictures(spec: DataSpec, source: str, pictures: PictureSource, datasets_dir: Path) -> Dataset:
    labelled = find_labelled(pictures, spec.folders, spec.within)
    fingerprint = _fingerprint(spec, pictures, labelled)
    dataset = load(spec.name, datasets_dir)
    if dataset and dataset.fingerprint == fingerprint:
        echo(f"{spec.name} is already prepared")
        return dataset
    target = datasets_dir / spec.name / _READY
    with replacing_folder(target) as partial:
        _build(partial, spec, pictures, labelled, {"format": FORMAT, "source": source, "fingerprint": fingerprint})
    dataset = load(spec.name, datasets_dir)
    if dataset is None:
        raise DataError(f"{target} cannot be read although it was just written. Is the disk damaged?")
    return dataset


def _fingerprint(spec: DataSpec, pictures: PictureSource, labelled: Sequence[LabelledPicture]) -> str:
    facts = {
        "format": FORMAT,
        "folders": dict(spec.folders),
        "inputs": {key: [asdict(preprocess), shape] for key, (preprocess, shape) in spec.inputs.items()},
        "test": spec.test,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for picture in labelled:
        digest.update(f"\n{picture.name}\t{pictures.stamp(picture.name)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _build(
    folder: Path, spec: DataSpec, pictures: PictureSource, labelled: Sequence[LabelledPicture], facts: Mapping[str, Any]
) -> None:
    """Write the data set into ``folder``, ``index.json`` last."""
    read, thumbnails = _write_inputs(folder, spec, pictures, labelled)
    names = [picture.name for picture in read]
    classes = np.array([picture.number for picture in read], np.int64)
    groups = near_identical(thumbnails)
    parts = split(names, groups, spec.test)
    for part in PARTS:
        there = {picture.number for picture, of in zip(read, parts, strict=True) if of == part}
        check_classes(pictures, spec.folders, there, f" for {part} (near-identical ones stay together)")
    np.save(folder / "classes.npy", classes)
    left_out = {picture.name for picture in labelled} - set(names)
    index = {
        **facts,
        "inputs": list(spec.inputs),
        "names": names,
        "parts": parts,
        "groups": groups,
        "unreadable": sorted(left_out),
    }
    (folder / "index.json").write_text(json.dumps(index, indent=0) + "\n", encoding="utf-8")


def _write_inputs(
    folder: Path, spec: DataSpec, pictures: PictureSource, labelled: Sequence[LabelledPicture]
) -> tuple[list[LabelledPicture], NDArray[np.uint8]]:
    """Write the tensors of every readable picture.

    :returns: the readable pictures, and their thumbnails (N, 16, 16).
    """
    files = {key: NpyWriter(folder / f"input-{key}.npy", len(labelled)) for key in spec.inputs}
    read: list[LabelledPicture] = []
    thumbnails = np.empty((len(labelled), SIDE, SIDE), np.uint8)
    for picture, image in read_images(pictures, labelled):
        for key, (preprocess, shape) in spec.inputs.items():
            files[key].append(to_tensor(image, preprocess, shape)[0])
        thumbnails[len(read)] = thumbnail(image)
        read.append(picture)
    for file in files.values():
        file.close()
    return read, thumbnails[: len(read)]
