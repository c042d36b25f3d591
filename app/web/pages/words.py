"""How the page says numbers and labels."""

from __future__ import annotations

import re

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


WORDNET = re.compile(r"n\d{8} (?=\S)")
"""The number of a WordNet synset, with which ImageNet's labels begin."""


def plain_label(label: str) -> str:
    """A label as people read it: ``espresso`` for ``n07920052 espresso``."""
    return WORDNET.sub("", label, count=1) if WORDNET.match(label) else label


def spoken_time(seconds: int) -> str:
    """A time in its largest whole unit: ``24 hours`` for a day, because that is what it is, ``90 minutes``."""
    for size, name in UNITS:
        count = seconds // size
        if seconds % size == 0 and count > (1 if name == "day" else 0):
            return f"{count} {name}" + ("" if count == 1 else "s")
    return f"{seconds} seconds"
