"""What the page shows of an answer, fresh or kept."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import request, url_for

from app.serving.drawing import as_picture, jpeg, png
from app.serving.model import Model
from app.serving.pipeline import Picture, Prepared
from app.serving.uploads import Kept, tag_of
from app.web.around.visitors import visitor
from app.web.context import dimple

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
