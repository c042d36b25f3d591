"""Every request has an id, which its answer carries and its log lines show."""

from __future__ import annotations

from flask import Flask, Response, g, request

from app.request_id import FACTS, HEADER, current, request_id_of
from app.web.context import dimple


def give_request_ids(app: Flask) -> None:
    """Give ids from now on. To be called before anything else that looks at requests."""
    app.before_request(_begin)
    app.after_request(_tell)
    app.teardown_request(_end)


def request_id() -> str:
    """The id of the present request, which a handler is told, too."""
    if "request_id" not in g:
        # Multi Model Server gives every request a number of its own, whatever the client has sent
        told = None if dimple().settings.log_style == "mms" else request.headers.get(HEADER)
        g.request_id = request_id_of(told)
    return str(g.request_id)


def _begin() -> None:
    given = request_id()
    current.set(given)
    request.environ[FACTS] = {"request_id": given}


def _tell(response: Response) -> Response:
    response.headers[HEADER] = request_id()
    return response


def _end(error: BaseException | None) -> None:
    current.set("")
