"""Mapping of folder names to a model's classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from app.errors import DataError
from app.utils.error_text import listed

SYNSET = re.compile(r"(n\d{8})(?!\d)\W*(.*)", re.DOTALL)
"""Pattern of ImageNet's labels, which begin with WordNet's number, as in ``n02123045 tabby, tabby cat``."""
MAX_LISTED = 10

Keys = Callable[[str], set[str]]
Table = dict[str, set[int]]


def match_classes(
    folders: Iterable[str], labels: Sequence[str], stated: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Return the class of every folder: folder -> its number among the labels.

    The matches, in order: the label itself; the label in another case, with ``_`` for a space; its plural or singular
    (``cats`` for ``cat``). An ImageNet label matches its number and each of its names too.

    :param stated: folder -> label, as specified by the user.
    :raises DataError: if a folder matches no class or several, or ``stated`` names a folder that does not exist.
    """
    folders, stated = list(folders), stated or {}
    if absent := sorted(set(stated) - set(folders)):
        raise DataError(
            f"--classes {absent[0]}={stated[absent[0]]}: there is no folder {absent[0]!r}. "
            f"There are: {listed(folders, MAX_LISTED)}."
        )
    ways: tuple[Keys, ...] = (lambda name: {name}, _in_any_case, _in_singular)
    tables = [(keys, _table(labels, keys)) for keys in ways]
    return {folder: _match(folder, stated.get(folder, folder), labels, tables) for folder in folders}


def classes_of(pictures: Iterable[str], labels: Sequence[str]) -> dict[str, int]:
    """Return the classes of pictures by the innermost of their folders that names a class; others are left out.

    :param pictures: names with ``/``.
    """
    known: dict[str, int | None] = {}
    found: dict[str, int] = {}
    for picture in pictures:
        for folder in reversed(PurePosixPath(picture).parts[:-1]):
            if folder not in known:
                known[folder] = _class_or_none(folder, labels)
            if (number := known[folder]) is not None:
                found[picture] = number
                break
    return found


def _class_or_none(folder: str, labels: Sequence[str]) -> int | None:
    try:
        return match_classes([folder], labels)[folder]
    except DataError:
        return None


def _table(labels: Sequence[str], keys: Keys) -> Table:
    """Return a table of lookup keys -> numbers of the classes that match the key."""
    table: Table = {}
    for index, label in enumerate(labels):
        for spelling in _spellings(label):
            for key in keys(spelling):
                table.setdefault(key, set()).add(index)
    return table


def _match(folder: str, name: str, labels: Sequence[str], tables: list[tuple[Keys, Table]]) -> int:
    synset = SYNSET.match(name)
    text = synset[1] if synset and name not in labels else name
    for keys, table in tables:
        matches = sorted(set().union(*(table.get(key, set()) for key in keys(text))))
        if len(matches) > 1:
            raise DataError(
                f"The folder {folder!r} may be any of "
                f"{', '.join(repr(labels[index]) for index in matches[:MAX_LISTED])}. "
                f"Say which by --classes '{folder}=LABEL'."
            )
        if matches:
            return matches[0]
    what = f"The folder {folder!r} is" if name == folder else f"--classes {folder}={name}: {name!r} is"
    raise DataError(
        f"{what} none of the model's classes. There are: {listed(labels, MAX_LISTED)}. Say which it is by --classes "
        f"'{folder}=LABEL'."
    )


def _spellings(label: str) -> list[str]:
    synset = SYNSET.match(label)
    if not synset:
        return [label]
    return [label, synset[1], synset[2], *re.split(r",\s*", synset[2])]


def _in_any_case(name: str) -> set[str]:
    return {name.casefold().replace("_", " ").strip()}


def _in_singular(name: str) -> set[str]:
    """Return the name, and the singulars that it may be the plural of."""
    (word,) = words = _in_any_case(name)
    if word.endswith("ies"):
        words = words | {word[:-3] + "y"}
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        words = words | {word[:-2]}
    if word.endswith("s") and not word.endswith("ss"):
        words = words | {word[:-1]}
    return words
