"""Which of a model's classes a folder's name means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from app.errors import DataError

SYNSET = re.compile(r"(n\d{8})(?!\d)\W*(.*)", re.DOTALL)
"""ImageNet's labels begin with WordNet's number, as in ``n02123045 tabby, tabby cat``."""
SHOWN = 10

Keys = Callable[[str], set[str]]
Table = dict[str, set[int]]


def match_classes(
    folders: Iterable[str], labels: Sequence[str], given: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Find the class of every folder: folder -> its number among the labels.

    Tried one after the other: the label itself; the same in other letters' case, with ``_`` for a space; its plural or
    singular (``cats`` for ``cat``). An ImageNet label goes by its number and by each of its names too.

    :param given: folder -> label, where the user says it by hand.
    :raises DataError: where a folder is no class or may be several, or ``given`` names a folder that is not there.
    """
    folders, given = list(folders), given or {}
    if absent := sorted(set(given) - set(folders)):
        raise DataError(
            f"--classes {absent[0]}={given[absent[0]]}: there is no folder {absent[0]!r}. {_there(folders)}"
        )
    ways: tuple[Keys, ...] = (_exactly, _in_any_case, _in_singular)
    tables = [(keys, _table(labels, keys)) for keys in ways]
    return {folder: _match(folder, given.get(folder, folder), labels, tables) for folder in folders}


def _table(labels: Sequence[str], keys: Keys) -> Table:
    """What a class may be looked up by -> the classes, by number, that go by it."""
    table: Table = {}
    for index, label in enumerate(labels):
        for spelling in _spellings(label):
            for key in keys(spelling):
                table.setdefault(key, set()).add(index)
    return table


def _match(folder: str, name: str, labels: Sequence[str], tables: list[tuple[Keys, Table]]) -> int:
    synset = SYNSET.match(name)
    wanted = synset[1] if synset and name not in labels else name
    for keys, table in tables:
        found = sorted(set().union(*(table.get(key, set()) for key in keys(wanted))))
        if len(found) > 1:
            raise DataError(
                f"The folder {folder!r} may be any of {', '.join(repr(labels[index]) for index in found[:SHOWN])}. "
                f"Say which by --classes '{folder}=LABEL'."
            )
        if found:
            return found[0]
    what = f"The folder {folder!r} is" if name == folder else f"--classes {folder}={name}: {name!r} is"
    raise DataError(
        f"{what} none of the model's classes. {_there(labels)} Say which it is by --classes '{folder}=LABEL'."
    )


def _spellings(label: str) -> list[str]:
    synset = SYNSET.match(label)
    if not synset:
        return [label]
    return [label, synset[1], synset[2], *re.split(r",\s*", synset[2])]


def _exactly(name: str) -> set[str]:
    return {name}


def _in_any_case(name: str) -> set[str]:
    return {name.casefold().replace("_", " ").strip()}


def _in_singular(name: str) -> set[str]:
    """The name, and what it may be the plural of."""
    (word,) = found = _in_any_case(name)
    if word.endswith("ies"):
        found = found | {word[:-3] + "y"}
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        found = found | {word[:-2]}
    if word.endswith("s") and not word.endswith("ss"):
        found = found | {word[:-1]}
    return found


def _there(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"There are: {', '.join(names[:SHOWN])}{more}."
