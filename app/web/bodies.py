"""The body of a request, as it came."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge


def whole_body() -> bytes:
    """All of the present request's body.

    :raises RequestEntityTooLarge: where it is longer than the settings allow.
    """
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) == request.max_content_length:
        raise RequestEntityTooLarge()  # Werkzeug ends a body of unknown length at the limit, silently
    return data
