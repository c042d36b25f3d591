"""The document of one model, with which Multi Model Server answers OPTIONS at every route that predicts.

It says nothing of a model's inputs and outputs, as there: clients rely on its structure. Its path is ``/prediction/…``
although the route is ``/predictions/…``, as there, too.
"""

from __future__ import annotations

from typing import Any

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

    :param name: the name that the model is registered under.
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
