"""Responses of Multi Model Server's APIs: its JSON and its headers."""

from __future__ import annotations

import json
from typing import Any

from flask import Response

from app.web.errors import MMS_HEADERS


def json_response(document: Any, status: int = 200, newline: bool = False) -> Response:
    """Return JSON as Multi Model Server writes it: two spaces deep; a model's answer without a newline at its end, the
    server's own with one."""
    return text_response(json.dumps(document, indent=2) + ("\n" if newline else ""), status)


def text_response(text: str, status: int = 200) -> Response:
    """Return a response of text that is JSON."""
    return Response(text, status, content_type="application/json")


def mark(response: Response) -> Response:
    """Add the headers that Multi Model Server sends with every response, but for the request's id, which every response
    of Dimple has."""
    response.headers.update(MMS_HEADERS)
    return response
