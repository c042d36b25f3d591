"""Every request has an id, which its answer carries and its log lines show."""

from __future__ import annotations

from flask import Response, g, request

from app.request_id import FACTS, HEADER, current, request_id_of
from app.web.context import dimple


def request_id() -> str:
    """The id of the present request, which a handler is told, too."""
    if "request_id" not in g:
        # Multi Model Server gives every request a number of its own, whatever the client has sent
        told = None if dimple().settings.log_style == "mms" else request.headers.get(HEADER)
        g.request_id = request_id_of(told)
    return str(g.request_id)


def begin_request_id() -> None:
    """Give the present request its id."""
    given = request_id()
    current.set(given)
    request.environ[FACTS] = {"request_id": given}


def add_request_id(response: Response) -> None:
    """Add the header."""
    response.headers[HEADER] = request_id()


def end_request_id() -> None:
    """The thread has no request any more."""
    current.set("")
