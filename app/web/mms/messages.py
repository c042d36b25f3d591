"""Requests and responses of Multi Model Server, and their differences in MXNet Model Server 0.4.

The only route of 0.4 was ``/{model}/predict``, and it answered ``{"prediction": …}``; 1.x has that route, too, but
answers without the wrapper for every archive. Dimple cannot tell the version for which a client was written, so the
archive decides. An archive of 0.x (``.model``, without ``specificationVersion`` in its manifest) gets 0.4's response at
0.4's route, as tutorials of its time show it. Every other archive or route gets the bare list of 1.x.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from flask import Response, request

from app.backend.batching import IsDisconnected
from app.errors import MissingFile
from app.handlers.types import Field
from app.serving.model import Model
from app.serving.pipeline import classify
from app.settings import PictureLimits
from app.utils.json import parse_json
from app.web.errors import MMS_HEADERS
from app.web.request import whole_body
from app.web.values import decode_base64

BODY = "body"
OTHERS = (BODY, "data")
"""Names of the image's field, in order after the name in the model's signature."""


def call(
    model: Model, fields: Sequence[Field], limits: PictureLimits, is_disconnected: IsDisconnected
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


def json_response(document: Any, status: int = 200, newline: bool = False) -> Response:
    """Return JSON in Multi Model Server's format, indented by two spaces.

    The server's own responses end with a newline, the responses of a model do not.
    """
    return text_response(json.dumps(document, indent=2) + ("\n" if newline else ""), status)


def text_response(text: str, status: int = 200) -> Response:
    """Return a response with text that is already JSON."""
    return Response(text, status, content_type="application/json")


def set_no_cache(response: Response) -> Response:
    """Add the headers that Multi Model Server sends with every response, except the request id, which is always set."""
    response.headers.update(MMS_HEADERS)
    return response


Json = dict[str, Any]

ERROR: Json = {
    "description": "The server failed",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["code", "type", "message"],
                "properties": {
                    "code": {"type": "integer", "description": "The HTTP status."},
                    "type": {"type": "string", "description": "The type of the error."},
                    "message": {"type": "string", "description": "What failed, why, and what to do."},
                },
            }
        }
    },
}


def model_document(name: str) -> Json:
    """Return the OpenAPI 3.0 document of a model.

    As in MMS, it omits the model's inputs and outputs, because clients rely on its structure. Its path is
    ``/prediction/…`` although the route is ``/predictions/…``, also as in MMS.

    :param name: name under which the model is registered.
    """
    operation = {
        "description": f"Predict with the model {name}.",
        "operationId": name,
        "parameters": [],
        "responses": {"200": {"description": "The model's answer"}, "500": ERROR},
    }
    return {
        "openapi": "3.0.1",
        "info": {"title": f"RESTful API for: {name}", "version": "1.0.0"},
        "paths": {f"/prediction/{name}": {"post": operation}},
    }


PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""First bytes of image files."""
HEAD = 400
"""Characters of Base64 that suffice to recognize an image after the beginning of a ``data:`` URL."""


def wrap_answer(answer: Any) -> str:
    """Return the response body of 0.4.

    :param answer: result for the only output of the model's network. 0.4 listed all outputs, so it is wrapped in a
        list.
    :returns: JSON with sorted keys, as in 0.4.
    """
    return json.dumps({"prediction": [answer]}, indent=2, sort_keys=True)


def wrap_body(body: bytes) -> str:
    """Return the response body of 0.4 for the output of an archive's own service: JSON, or else text."""
    try:
        return wrap_answer(parse_json(body, allow_surrogates=True))
    except ValueError:
        return wrap_answer(body.decode(errors="replace"))


def with_pictures(fields: Iterable[Field], names: Sequence[str] = ()) -> tuple[Field, ...]:
    """Return the fields of a request, with images in Base64 text decoded, because 0.4 accepted them, too.

    0.4 rejected every image without the type ``image/jpeg``; accepting a PNG, or a JPEG without a type, is harmless.

    :param names: names of the fields to decode; all fields if empty.
    """
    return tuple(
        field
        if field.is_file or (names and field.name not in names)
        else replace(field, data=_decode_picture(field.data))
        for field in fields
    )


def _decode_picture(text: bytes) -> bytes:
    """Return the image that the text has in Base64; the text itself if it has none."""
    for end in (HEAD, HEAD - 1):  # no Base64 text ends with a single character of a group of four
        with contextlib.suppress(ValueError):
            if decode_base64(text[:end]).startswith(PICTURES):
                return decode_base64(text)
    return text
