"""How the page says numbers and labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


WORDNET = re.compile(r"n\d{8} (?=\S)")
"""The number of a WordNet synset, with which ImageNet's labels begin."""


NEGATION = re.compile(r"(non|not|no)[-_ ]")
"""How the label of a class begins that is the absence of another one."""
KINDS = 4
"""Colours that the frames of faces have."""


def plain_label(label: str) -> str:
    """A label as people read it: ``espresso`` for ``n07920052 espresso``."""
    return WORDNET.sub("", label, count=1) if WORDNET.match(label) else label


def headline(label: str) -> str:
    """Return a label as the beginning of a sentence: ``Not smiling`` for ``non-smiling``."""
    plain = NEGATION.sub("not ", plain_label(label), count=1)
    return plain[:1].upper() + plain[1:]


def face_kind(predictions: Sequence[Mapping[str, Any]]) -> int:
    """Return a number below ``KINDS`` that a face's class has, the same in all answers of its model: its colour."""
    labels = sorted(str(one["class"]) for one in predictions)
    return labels.index(predictions[0]["class"]) % KINDS


def faces_summary(faces: Sequence[Mapping[str, Any]]) -> str:
    """Return how many faces are of which class: ``4 of 6 smiling``, or ``3 happy, 2 sad`` if there are several.

    :param faces: of an answer's document, at least one.
    """
    counts = Counter(str(face["predictions"][0]["class"]) for face in faces)
    positive = [label for one in faces[0]["predictions"] if not NEGATION.match(label := str(one["class"]))]
    if len(positive) == 1:
        return f"{counts[positive[0]]} of {len(faces)} {plain_label(positive[0])}"
    return ", ".join(f"{count} {plain_label(label)}" for label, count in counts.most_common())


def spoken_time(seconds: int) -> str:
    """A time in its largest whole unit: ``24 hours`` for a day, because that is what it is, ``90 minutes``."""
    for size, name in UNITS:
        count = seconds // size
        if seconds % size == 0 and count > (1 if name == "day" else 0):
            return f"{count} {name}" + ("" if count == 1 else "s")
    return f"{seconds} seconds"
