"""Results, models, numbers and labels, as the pages show them."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import request, url_for

from app.serving.loader import Entry
from app.serving.model import Model
from app.serving.pipeline import Picture, Prepared
from app.serving.rendering import as_picture, jpeg, png
from app.serving.uploads import Kept, tag_of
from app.utils.json import read_json
from app.web.csrf import visitor
from app.web.request import dimple

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


PREVIEW_SIDE = 800
FEW_LABELS = 20
"""Labels that a list to choose from may have; of more, the right one is typed."""


@dataclass(frozen=True)
class Shown:
    """An answer on a page. ``answer`` is its JSON document; ``preview`` and ``seen`` are addresses of pictures, one of
    ``seen`` for each face. ``id`` is empty where the picture is not kept; then nothing can be asked of it later.
    ``mine`` says that whoever looks has sent it, ``corrected`` maps faces' numbers, from 1, to labels."""

    answer: Mapping[str, Any]
    name: str
    width: int
    height: int
    preview: str = ""
    seen: tuple[str, ...] = ()
    id: str = ""
    mine: bool = False
    corrected: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The JSON that a program gets."""
        return json.dumps(self.answer, indent=2, ensure_ascii=False)

    @property
    def curl(self) -> str:
        """The command that gives the same answer."""
        address = url_for("predict.predict", model=self.answer["model"], _external=True)
        return f"curl -F {shlex.quote('file=@' + _for_curl(self.name or 'picture.jpg'))} {shlex.quote(address)}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Labels that a correction can take; of many, those of the answer."""
        model = self._model
        return model.labels if model and len(model.labels) <= FEW_LABELS else ()

    @property
    def loaded(self) -> bool:
        """Whether the model that answered still does."""
        return self._model is not None

    @property
    def _model(self) -> Model | None:
        for entry in dimple().registry.entries():
            if entry.name == self.answer["model"] and isinstance(entry.model, Model):
                return entry.model
        return None

    @property
    def others(self) -> list[str]:
        """Models that could be asked about the same picture."""
        entries = dimple().registry.entries()
        return [one.name for one in entries if isinstance(one.model, Model) and one.name != self.answer["model"]]


def fresh(model: Model, picture: Picture, prepared: Prepared) -> dict[str, Any]:
    """What there is to show of a picture that is not kept, to be taken while it is open."""
    rows = range(len(prepared.tensor))
    seen = tuple(_data("png", png(as_picture(prepared.tensor[row : row + 1], model.preprocess))) for row in rows)
    preview = _data("jpeg", jpeg(picture.image, PREVIEW_SIDE))
    return {"preview": preview, "seen": seen, **dict(zip(("width", "height"), picture.size, strict=True))}


def kept(one: Kept) -> Shown:
    """What there is to show of a picture that is kept."""
    record = one.record
    faces = range(1, len(record["answer"]["faces"] or [None]) + 1)
    return Shown(
        answer=record["answer"],
        name=record["name"],
        width=record["width"],
        height=record["height"],
        preview=url_for("results.picture", identity=one.id),
        seen=tuple(url_for("results.seen", identity=one.id, face=face) for face in faces),
        id=one.id,
        mine=is_mine(one),
        corrected=record.get("corrected", {}),
    )


def is_mine(one: Kept) -> bool:
    """Whether whoever asks has sent the picture."""
    return bool(visitor()) and one.tag == tag_of(visitor())


def wants_part() -> bool:
    """Whether a script of the page asks, which puts the answer into the page itself."""
    return request.headers.get("X-Part") == "result"


def _for_curl(name: str) -> str:
    """A file's name for ``-F``, where ``;`` and ``,`` mean something unless it is in quotes."""
    if not set(name) & set(';,"'):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _data(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
