"""Responses of Multi Model Server's APIs: JSON, headers, and the OpenAPI document of one model.

As in MMS, that document omits the model's inputs and outputs, because clients rely on its structure. Its path is
``/prediction/…`` although the route is ``/predictions/…``, also as in MMS.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Response

from app.web.errors import MMS_HEADERS


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
