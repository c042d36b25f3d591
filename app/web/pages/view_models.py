"""View models of results and models, and the text of numbers and labels on pages."""

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
from app.serving.pipeline import Picture, PreparedInput
from app.serving.rendering import jpeg, png, tensor_image
from app.serving.uploads import StoredUpload, tag_of
from app.utils.json import read_json
from app.web.csrf import visitor
from app.web.request import services

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


WORDNET = re.compile(r"n\d{8} (?=\S)")
"""Number of a WordNet synset, with which ImageNet's labels begin."""


NEGATION = re.compile(r"(non|not|no)[-_ ]")
"""Prefix of a label for the absence of another class."""
KINDS = 4
"""Number of colours for face frames."""


def plain_label(label: str) -> str:
    """Return a label as people read it: ``espresso`` for ``n07920052 espresso``."""
    return WORDNET.sub("", label, count=1) if WORDNET.match(label) else label


def headline(label: str) -> str:
    """Return a label as the beginning of a sentence: ``Not smiling`` for ``non-smiling``."""
    plain = NEGATION.sub("not ", plain_label(label), count=1)
    return plain[:1].upper() + plain[1:]


def face_kind(predictions: Sequence[Mapping[str, Any]]) -> int:
    """Return the colour of a face's class, a number below ``KINDS`` that is the same in all responses of its model."""
    labels = sorted(str(prediction["class"]) for prediction in predictions)
    return labels.index(predictions[0]["class"]) % KINDS


def faces_summary(faces: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of faces in each class: ``4 of 6 smiling``, or ``3 happy, 2 sad`` for several classes.

    :param faces: faces of a response document, at least one.
    """
    counts = Counter(str(face["predictions"][0]["class"]) for face in faces)
    positive = [label for face in faces[0]["predictions"] if not NEGATION.match(label := str(face["class"]))]
    if len(positive) == 1:
        return f"{counts[positive[0]]} of {len(faces)} {plain_label(positive[0])}"
    return ", ".join(f"{count} {plain_label(label)}" for label, count in counts.most_common())


def spoken_time(seconds: int) -> str:
    """Return a time in its largest whole unit, but one day as ``24 hours``; for example ``90 minutes``."""
    for size, name in UNITS:
        count = seconds // size
        if seconds % size == 0 and count > (1 if name == "day" else 0):
            return f"{count} {name}" + ("" if count == 1 else "s")
    return f"{seconds} seconds"


FEW = 4
"""Maximum number of labels that a card lists in full."""
EXAMPLES = 3


@dataclass(frozen=True)
class ModelCard:
    """Card of a model on the page. ``accuracy`` is a sentence, empty if the accuracy has not been measured."""

    name: str
    sentence: str
    labels: tuple[str, ...]
    accuracy: str


def model_cards(entries: list[Entry]) -> list[ModelCard]:
    """Return a card for every loaded model of Dimple's own engines."""
    return [
        ModelCard(entry.name, _sentence(entry.model, _manifest_text(entry)), entry.model.labels, _accuracy(entry))
        for entry in entries
        if isinstance(entry.model, Model)
    ]


def _sentence(model: Model, described: str) -> str:
    """Return the manifest's description, or else a sentence about the model's labels."""
    if described:
        return described
    labels = model.labels
    if len(labels) > FEW:
        some = ", ".join(plain_label(label).partition(",")[0] for label in labels[:EXAMPLES])
        return f"Names what is in the picture: one of {len(labels):,} things, such as {some}."
    choice = f"{', '.join(labels[:-1])} or {labels[-1]}" if len(labels) > 1 else labels[0]
    return f"Finds the faces and says of each: {choice}." if model.preprocess.faces else f"Says which it is: {choice}."


def _manifest_text(entry: Entry) -> str:
    model_facts = _read(Path(entry.registration.path) / "MAR-INF" / "MANIFEST.json").get("model")
    text = model_facts.get("description") if isinstance(model_facts, dict) else None
    return text if isinstance(text, str) else ""


def _accuracy(entry: Entry) -> str:
    metrics = _read(Path(entry.registration.path) / "metrics.json")
    accuracy, count = metrics.get("accuracy"), metrics.get("n")
    if not isinstance(accuracy, float) or not isinstance(count, int):
        return ""
    if metrics.get("how"):  # of "flask models train", whose figures are over its training images
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
"""Maximum number of labels in a selection list; with more, the user types the label."""


@dataclass(frozen=True)
class ResultView:
    """A result on a page.

    :param answer: JSON document of the response.
    :param preview: address of the preview image.
    :param seen: addresses of the network's view, one for each face.
    :param id: result id; empty if the image is not stored, so that no later request can refer to it.
    :param mine: whether the viewer has uploaded the image.
    :param corrected: corrected labels by face number, from 1.
    """

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
        """Return the JSON that a program gets."""
        return json.dumps(self.answer, indent=2, ensure_ascii=False)

    @property
    def curl(self) -> str:
        """Return the curl command for the same response."""
        address = url_for("predict.predict", model=self.answer["model"], _external=True)
        return f"curl -F {shlex.quote('file=@' + _for_curl(self.name or 'picture.jpg'))} {shlex.quote(address)}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the labels that a correction can choose from; empty if there are too many for a list."""
        model = self._model
        return model.labels if model and len(model.labels) <= FEW_LABELS else ()

    @property
    def loaded(self) -> bool:
        """Return whether the model of the result is still loaded."""
        return self._model is not None

    @property
    def _model(self) -> Model | None:
        for entry in services().registry.entries():
            if entry.name == self.answer["model"] and isinstance(entry.model, Model):
                return entry.model
        return None

    @property
    def others(self) -> list[str]:
        """Return the other models that could classify the same image."""
        entries = services().registry.entries()
        return [
            entry.name for entry in entries if isinstance(entry.model, Model) and entry.name != self.answer["model"]
        ]


def from_upload(model: Model, picture: Picture, prepared: PreparedInput) -> dict[str, Any]:
    """Return the view data of an image that is not stored, computed while it is open."""
    rows = range(len(prepared.tensor))
    seen = tuple(_data("png", png(tensor_image(prepared.tensor[row : row + 1], model.preprocess))) for row in rows)
    preview = _data("jpeg", jpeg(picture.image, PREVIEW_SIDE))
    return {"preview": preview, "seen": seen, **dict(zip(("width", "height"), picture.size, strict=True))}


def from_store(upload: StoredUpload) -> ResultView:
    """Return the view of a stored image."""
    record = upload.record
    faces = range(1, len(record["answer"]["faces"] or [None]) + 1)
    return ResultView(
        answer=record["answer"],
        name=record["name"],
        width=record["width"],
        height=record["height"],
        preview=url_for("results.picture", identity=upload.id),
        seen=tuple(url_for("results.seen", identity=upload.id, face=face) for face in faces),
        id=upload.id,
        mine=is_mine(upload),
        corrected=record.get("corrected", {}),
    )


def is_mine(upload: StoredUpload) -> bool:
    """Return whether the client of the current request has uploaded the image."""
    return bool(visitor()) and upload.tag == tag_of(visitor())


def wants_part() -> bool:
    """Return whether the page's script sent the request, so that the response is only a part of the page."""
    return request.headers.get("X-Part") == "result"


def _for_curl(name: str) -> str:
    """Return a file's name for ``-F``, quoted because ``;`` and ``,`` have a meaning there."""
    if not set(name) & set(';,"'):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _data(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
