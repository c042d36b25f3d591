"""JSON with limits of length and depth, which RFC 8259 leaves to the reader (section 9)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 2**20
"""Maximum size of JSON. Graphs of a thousand layers take about 1 MB; Python's objects take ten times as much as the
text."""
MAX_DEPTH = 200
"""Maximum depth of nested lists and objects. Nested models have about 30."""
_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path) -> Any:
    """Read a JSON file of at most :data:`MAX_BYTES`.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is too long, or as :func:`parse_json`.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
    return parse_json(content)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if it cannot be read, or holds something else."""
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def parse_json(
    text: str | bytes,
    max_depth: int = MAX_DEPTH,
    *,
    allow_surrogates: bool = False,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """Parse JSON; bytes may be UTF-8, 16 or 32, with or without a byte order mark.

    :param max_depth: maximum depth of nested lists and objects.
    :param allow_surrogates: whether strings may contain lone surrogates (RFC 8259, section 8.2). Python reads them from
        ``"\\ud800"``, and can then neither print nor send them.
    :param parse_constant: function that converts ``NaN``, ``Infinity`` and ``-Infinity``; by default they become
        floats.
    :raises ValueError: if it is not JSON, is nested deeper, or contains a lone surrogate.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        document = json.loads(text, parse_constant=parse_constant)
        if not allow_surrogates and _HALF_SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:  # Python's own limit, of about a thousand
        raise ValueError(_too_deep(max_depth)) from None
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half of a surrogate pair, which is no character") from None
    if _is_deeper(document, max_depth):
        raise ValueError(_too_deep(max_depth))
    return document


def _too_deep(max_depth: int) -> str:
    return f"it has more than {max_depth} lists and objects within each other"


def _is_deeper(document: Any, max_depth: int) -> bool:
    """Return whether lists and objects are nested deeper than ``max_depth``."""
    level = [document]
    for _ in range(max_depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return False
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return True
