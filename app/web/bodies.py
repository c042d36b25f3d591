"""The body of a request."""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

DRAIN_BYTES = 256 * 2**20
CHUNK = 2**16


def whole_body() -> bytes:
    """All of the present request's body.

    :raises RequestEntityTooLarge: where it is longer than the settings allow.
    :raises ClientDisconnected: where the client ends before it does.
    """
    length, most = request.content_length, request.max_content_length
    if length is None or "stream" in vars(request):  # somebody has begun to read
        data = request.get_data(cache=False)
        if length is None and len(data) == most:
            raise RequestEntityTooLarge()  # Werkzeug ends a body of unknown length at the limit, silently
        return data
    if most is not None and length > most:
        raise RequestEntityTooLarge()
    try:
        data = bytes(request.environ["wsgi.input"].read(length))  # without Werkzeug's streams: 30 microseconds
    except OSError:
        raise ClientDisconnected() from None
    if len(data) < length:
        raise ClientDisconnected()
    return data


def drain_bodies(app: Flask) -> None:
    """Read every request's body to its end before the response is sent.

    A client sends its next request after a response: gunicorn would take what is left of a body for that request. And
    a connection that is closed with unread bytes is reset, after which most clients never see the response.
    """
    app.after_request(_drain)


def _drain(response: Response) -> Response:
    left = DRAIN_BYTES
    stream = request.environ["wsgi.input"]
    try:
        while left > 0 and (chunk := stream.read(CHUNK)):
            left -= len(chunk)
    except OSError:  # the client has gone, or its body is not what its headers said
        pass
    return response
