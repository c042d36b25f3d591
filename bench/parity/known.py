"""The declared differences, and the found differences that they explain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.parity.compare import Difference

FILE = Path(__file__).parent / "differences.json"


@dataclass(frozen=True)
class Place:
    """An answer in which a known difference appears. Each field may have ``*`` for any text."""

    check: str
    aspect: str
    mms: str = "*"
    dimple: str = "*"

    def fits(self, difference: Difference) -> bool:
        mine = (self.check, self.aspect, self.mms, self.dimple)
        theirs = (difference.check, difference.aspect, difference.mms, difference.dimple)
        return all(_fits(pattern, text) for pattern, text in zip(mine, theirs, strict=True))


@dataclass(frozen=True)
class Known:
    """A declared difference: what each server does, why, and in which answers it appears."""

    id: str
    mms: str
    dimple: str
    because: str
    places: tuple[Place, ...]


def _fits(pattern: str, text: str) -> bool:
    """Match like fnmatch, but only ``*`` is special: bodies are full of brackets and question marks."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None


def read_known(path: Path = FILE) -> list[Known]:
    """Read the file of known differences.

    :raises ValueError: if two have one id, or one has no place.
    """
    known = [
        Known(
            load["id"], load["mms"], load["dimple"], load["because"], tuple(Place(**place) for place in load["where"])
        )
        for load in json.loads(path.read_text(encoding="utf-8"))
    ]
    ids = [item.id for item in known]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise ValueError(f"{path}: two differences are called {', '.join(twice)}; give one another id")
    if idle := [item.id for item in known if not item.places]:
        raise ValueError(f'{path}: {", ".join(idle)} shows nowhere; name the checks under "where"')
    return known


@dataclass(frozen=True)
class Verdict:
    """The differences that were found: explained (by id), not explained, and the places that explained nothing."""

    explained: dict[str, list[Difference]]
    undeclared: list[Difference]
    gone: list[tuple[str, Place]]

    @property
    def passed(self) -> bool:
        return not self.undeclared and not self.gone


def judge(found: Iterable[Difference], known: Iterable[Known], ran: Iterable[str] | None = None) -> Verdict:
    """Explain the differences that were found by the known ones.

    :param ran: the checks that ran, None for all; an unused place proves nothing if its check did not run.
    """
    known = list(known)
    explained: dict[str, list[Difference]] = {item.id: [] for item in known}
    used: set[tuple[str, Place]] = set()
    undeclared = []
    for difference in found:
        fitting = [(item.id, place) for item in known for place in item.places if place.fits(difference)]
        used.update(fitting)
        if fitting:
            explained[fitting[0][0]].append(difference)
        else:
            undeclared.append(difference)
    checks = None if ran is None else list(ran)
    gone = [
        (item.id, place)
        for item in known
        for place in item.places
        if (item.id, place) not in used and (checks is None or any(_fits(place.check, check) for check in checks))
    ]
    return Verdict(explained, undeclared, gone)
