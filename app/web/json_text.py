"""JSON of a client's, as far as it is not nested too deeply."""

from __future__ import annotations

import re

from app.errors import BadParameter

STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def check_depth(text: str, most: int) -> None:
    """Refuse what would take a parser deep: one that calls itself for each level ends in an error at some thousand.

    :raises BadParameter: where lists and objects lie more than ``most`` deep within each other.
    """
    if text.count("[") + text.count("{") <= most:
        return
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", STRING.sub("", text)):
        depth += STEP[bracket]
        if depth > most:
            raise BadParameter("body", text, f"JSON of at most {most} lists and objects within each other")
