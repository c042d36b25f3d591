"""Fields of Multi Model Server's requests, as handlers and its vision service expect them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flask import request

from app.backend.batching import IsDisconnected, never_disconnected
from app.errors import MissingFile
from app.handlers.types import Field
from app.serving.model import Model
from app.serving.pipeline import classify
from app.settings import PictureLimits
from app.web.request import whole_body

BODY = "body"
OTHERS = (BODY, "data")
"""Names of the image's field, in order after the name in the model's signature."""


def call(
    model: Model, fields: Sequence[Field], limits: PictureLimits, is_disconnected: IsDisconnected = never_disconnected
) -> list[dict[str, Any]]:
    """Classify the only image of a request.

    :param fields: fields of the request; a body without a form is named ``body``.
    :returns: the model's number of classes as ``{"probability", "class"}``, the most probable first.
    :raises MissingFile: if no field has one of the names, and there is not exactly one file or one field.
    :raises BadInput: if the data is not an image.
    :raises ModelUnavailable: as :func:`app.serving.pipeline.classify`.
    """
    answer = classify(model, picture_of(model, fields), limits, is_disconnected=is_disconnected)
    return [{"probability": prediction.probability, "class": prediction.label} for prediction in answer.predictions]


def picture_of(model: Model, fields: Sequence[Field]) -> bytes:
    """Return the data of the image's field.

    :raises MissingFile: as :func:`call`.
    """
    filled = [field for field in fields if field.data]
    for name in (model.input.name, *OTHERS):
        for field in reversed(filled):
            if field.name == name:
                return field.data
    files = [field for field in filled if field.is_file]
    for group in (files, filled):
        if len(group) == 1:
            return group[0].data
    raise MissingFile([field.name for field in fields], files=[field.name for field in files])


FORM = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"


def read_fields(with_query: bool) -> tuple[Field, ...]:
    """Return the parts of a multipart form, the fields of a urlencoded form, or the body under the name ``body``.

    :param with_query: if True, the query's parameters come first.
    """
    query = _plain(request.args.items(multi=True)) if with_query else []
    if request.mimetype == FORM and "boundary" in request.mimetype_params:
        files = [
            Field(name, part.content_type or "application/octet-stream", part.read(), is_file=True)
            for name, part in request.files.items(multi=True)
        ]
        return (*query, *_plain(request.form.items(multi=True)), *files)
    if request.mimetype == URLENCODED and (fields := _plain(request.form.items(multi=True))):
        return (*query, *fields)
    return (*query, Field(BODY, request.content_type or "", whole_body(), is_file=True))


def _plain(items: Iterable[tuple[str, str]]) -> list[Field]:
    return [Field(name, "", value.encode(), is_file=False) for name, value in items]
