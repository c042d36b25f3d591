"""Training pictures: a zip or a folder in, arrays out, split by file name."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.errors import BadInput, DataError
from app.types import FloatArray, Preprocess
from app.vision.decode import decode
from app.vision.preprocess import to_tensor

MAX_PIXELS = 50_000_000
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Part:
    """Pictures (N, …) as a network takes them, with the numbers of their classes (N,)."""

    pictures: FloatArray
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The three parts of a data set. Training sees the first, chooses by the second; the third is for the end."""

    train: Part
    validation: Part
    test: Part


def read_split(
    source: Path, folders: Mapping[str, int], preprocess: Preprocess, shape: tuple[int, ...], test: float
) -> Split:
    """Read every picture of a zip or a folder, through the very code that serves.

    :param folders: name of a folder -> number of the class that the pictures in it, or below it, belong to.
    :param test: the share of the pictures, 0-1, that is kept for the end; a tenth of all is for validation.
    :raises DataError: where the source cannot be read or a class has no picture.
    """
    tensors: dict[str, list[FloatArray]] = {"train": [], "validation": [], "test": []}
    classes: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    with _opened(source) as (names, read):
        labelled = list(_labelled(names, folders))
        for name, number in tqdm(labelled, desc="reading", unit=" pictures", mininterval=1):
            part = part_of(PurePosixPath(name).name, test)
            try:
                tensors[part].append(to_tensor(decode(read(name), MAX_PIXELS), preprocess, shape))
            except BadInput as error:
                raise DataError(f"{name}: {error}") from None
            classes[part].append(number)
    for part, numbers in classes.items():
        if missing := set(folders.values()) - set(numbers):
            needed = ", ".join(folders)
            raise DataError(f"{source}: no picture of class {sorted(missing)} for {part}; it needs folders {needed}")
    parts = {part: Part(np.concatenate(tensors[part]), np.array(classes[part])) for part in tensors}
    return Split(**parts)


def part_of(name: str, test: float) -> str:
    """The part that a picture belongs to: a function of its file's name alone, so the same on every machine."""
    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + 0.1 else "train"


def _labelled(files: Iterable[str], folders: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The pictures among the files, with the class of the folder that they are in."""
    for name in files:
        path = PurePosixPath(name)
        numbers = [folders[parent] for parent in path.parts[:-1] if parent in folders]
        if numbers and path.suffix.lower() in SUFFIXES:
            yield name, numbers[-1]


@contextmanager
def _opened(source: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The names of all files of a zip or a folder, and what reads one."""
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        yield sorted(names), lambda name: (source / name).read_bytes()
        return
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is neither a folder nor a zip: {error}") from None
    with archive:
        yield sorted(archive.namelist()), archive.read
