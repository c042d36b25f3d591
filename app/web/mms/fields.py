"""A request of Multi Model Server's API, taken apart as its handlers expect it."""

from __future__ import annotations

from collections.abc import Iterable

from flask import request

from app.serving.calls import BODY
from app.serving.custom_model import Field
from app.web.bodies import whole_body

FORM = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"


def read_fields(with_query: bool) -> tuple[Field, ...]:
    """The parts of a form, the fields of a urlencoded one, or the body under the name ``body``.

    :param with_query: whether the query's parameters come before them.
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
