"""The classes of a collection of pictures, and whether they are enough to learn from."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import DataError
from app.formats.pictures import PictureSource, by_class

LEAST = 5
"""Pictures that a class needs: with fewer, cross-validation would train on three or less."""


@dataclass(frozen=True)
class Labelled:
    """The classes' labels, in the order of their folders' names, and all pictures: (name, number of its class)."""

    labels: tuple[str, ...]
    pictures: tuple[tuple[str, int], ...]


def find_classes(source: PictureSource, folds: int) -> Labelled:
    """Take every folder for a class. Nothing is read yet.

    :param folds: of the cross-validation to come; every class needs as many pictures.
    :raises DataError: where there is one class only, two have the same label, a label cannot be a line of a text file,
        or a class has too few pictures.
    """
    folders = by_class(source)
    labels = _labels(source.path, tuple(folders))
    if len(labels) < 2:
        raise DataError(
            f"{source.path} has one class only, {labels[0]!r}. Two at least are needed: put a folder with pictures of "
            "something else beside it."
        )
    pictures = tuple((name, number) for number, names in enumerate(folders.values()) for name in names)
    check_counts(source.path, labels, [number for _, number in pictures], folds)
    return Labelled(labels, pictures)


def check_counts(path: Path, labels: Sequence[str], classes: Sequence[int], folds: int, skipped: int = 0) -> None:
    """Make sure that there are enough pictures of every class.

    :param classes: number of each picture's class.
    :param skipped: how many could not be read, for the message.
    :raises DataError: naming the classes with too few.
    """
    counts = dict.fromkeys(range(len(labels)), 0)
    for number in classes:
        counts[number] += 1
    least = max(LEAST, folds)
    few = {labels[number]: count for number, count in counts.items() if count < least}
    if not few:
        return
    unread = f" (not counting {skipped:,} that could not be read)" if skipped else ""
    fewer = "" if least == LEAST or min(few.values()) < LEAST else f", or take --folds {min(few.values())}"
    raise DataError(
        f"{path} has too few pictures of {_listed(few)}{unread}. Put at least {least} of each class into its folder"
        f"{fewer}, or take the folder away."
    )


def _labels(path: Path, folders: Sequence[str]) -> tuple[str, ...]:
    labels: dict[str, str] = {}
    for folder in folders:
        # NFC: macOS writes é as e and an accent, which is another text of the same look
        label = unicodedata.normalize("NFC", folder).strip()
        if not label or not label.isprintable():
            raise DataError(f"{path}: the folder {folder!r} cannot name a class. Give it a name of plain characters.")
        if label in labels:
            raise DataError(
                f"{path}: the folders {labels[label]!r} and {folder!r} both name the class {label!r}. "
                "Put their pictures into one, or rename one."
            )
        labels[label] = folder
    return tuple(labels)


def _listed(few: Mapping[str, int]) -> str:
    shown = [f"{label!r} ({count or 'none'})" for label, count in list(few.items())[:5]]
    return ", ".join(shown) + (f" and {len(few) - 5} more classes" if len(few) > 5 else "")
