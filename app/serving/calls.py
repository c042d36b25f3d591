"""A picture as Multi Model Server's clients send it, and the answer that its vision service gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import MissingFile
from app.serving.line import Gone, never
from app.serving.model import Model
from app.serving.pipeline import classify
from app.types import PictureLimits

BODY = "body"
OTHERS = (BODY, "data")
"""Where the picture is looked for after the field that the model's signature names."""


def call(model: Model, fields: Mapping[str, bytes], limits: PictureLimits, gone: Gone = never) -> list[dict[str, Any]]:
    """Classify the one picture of a request.

    :param fields: what the request carries, by name; a body without a form is called ``body``.
    :returns: the most probable classes first, ``{"probability", "class"}`` each, as many as the model reports.
    :raises MissingFile: where no field has one of the names, and there is not exactly one field.
    :raises BadInput: where what is sent is no picture.
    :raises ModelUnavailable: as :func:`app.serving.pipeline.classify`.
    """
    said = classify(model, _picture(model, fields), limits, gone=gone)
    return [{"probability": one.probability, "class": one.label} for one in said.predictions]


def _picture(model: Model, fields: Mapping[str, bytes]) -> bytes:
    for name in (model.input.name, *OTHERS):
        if fields.get(name):
            return fields[name]
    filled = [data for data in fields.values() if data]
    if len(filled) == 1:
        return filled[0]
    raise MissingFile(list(fields))
