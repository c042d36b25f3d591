"""A model in a sentence: what it does, what it knows, how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.serving.loader import Entry
from app.serving.model import Model
from app.utils.json import read_json
from app.web.pages.words import plain_label

FEW = 4
"""Labels that are told one by one."""
EXAMPLES = 3


@dataclass(frozen=True)
class Card:
    """What the page shows of a model. ``accuracy`` is a sentence, empty where nobody has measured it."""

    name: str
    sentence: str
    labels: tuple[str, ...]
    accuracy: str


def cards(entries: list[Entry]) -> list[Card]:
    """A card for every model that our engines compute and that answers."""
    return [
        Card(entry.name, _sentence(entry.model, _described(entry)), entry.model.labels, _accuracy(entry))
        for entry in entries
        if isinstance(entry.model, Model)
    ]


def _sentence(model: Model, described: str) -> str:
    """What the manifest says, or what the model's own labels tell."""
    if described:
        return described
    labels = model.labels
    if len(labels) > FEW:
        some = ", ".join(plain_label(label).partition(",")[0] for label in labels[:EXAMPLES])
        return f"Names what is in the picture: one of {len(labels):,} things, such as {some}."
    choice = f"{', '.join(labels[:-1])} or {labels[-1]}" if len(labels) > 1 else labels[0]
    return f"Finds the faces and says of each: {choice}." if model.preprocess.faces else f"Says which it is: {choice}."


def _described(entry: Entry) -> str:
    told = _read(Path(entry.registration.path) / "MAR-INF" / "MANIFEST.json").get("model")
    text = told.get("description") if isinstance(told, dict) else None
    return text if isinstance(text, str) else ""


def _accuracy(entry: Entry) -> str:
    metrics = _read(Path(entry.registration.path) / "metrics.json")
    accuracy, count = metrics.get("accuracy"), metrics.get("n")
    if not isinstance(accuracy, float) or not isinstance(count, int):
        return ""
    if metrics.get("how"):  # of "flask models train", whose figures are over the pictures that it learned from
        return f"Right for {accuracy * 100:.1f} % of its own {count:,} pictures, by {metrics['how']}."
    return f"Right for {accuracy * 100:.1f} % of {count:,} pictures that it had never seen."


def _read(path: Path) -> dict[str, Any]:
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _read_once(path: Path, _changed: int) -> dict[str, Any]:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
