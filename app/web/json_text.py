"""JSON of a client's: as RFC 8259 has it, and not nested too deeply."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from app.errors import BadParameter

STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse_json(data: bytes) -> Any:
    """Parse JSON, in which NaN is no number.

    :raises ValueError: where it is none, or nested too deep for the parser.
    """
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


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
