"""JSON out of files that strangers made: of bounded length and depth, and only of texts that can be written again.

RFC 8259 leaves both bounds to the reader (section 9), and warns of halves of surrogate pairs (section 8.2), which
Python reads from ``"\\ud800"`` and can then neither print nor send.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 2**20
"""Graphs of a thousand layers take about one; Python's objects take ten times what the text takes."""
MAX_DEPTH = 200
"""Brackets in brackets. Models in models in models have about 30; Python's own limit would come at a thousand calls."""
_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    :raises OSError: where it cannot be read.
    :raises ValueError: where it is too long, or as :func:`parse_json`.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
    return parse_json(content)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; bytes may be UTF-8, 16 or 32, with or without a byte order mark.

    :raises ValueError: where it is no JSON, is nested too deep, or holds half of a surrogate pair.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        document = json.loads(text)
        if _HALF_SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half of a surrogate pair, which is no character") from None
    if _depth(document) > MAX_DEPTH:
        raise ValueError(_too_deep())
    return document


def _too_deep() -> str:
    return f"it has more than {MAX_DEPTH} brackets in brackets"


def _depth(document: Any) -> int:
    """How many lists and objects lie in each other, one more than the limit at most."""
    level, depth = [document], 0
    while depth <= MAX_DEPTH:
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            break
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
