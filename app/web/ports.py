"""Which routes answer at which port: management never answers where everybody may ask.

Where both ports are the same, as in SageMaker's containers, everything answers there.
"""

from __future__ import annotations

from flask import Flask, Response, abort, request
from werkzeug.exceptions import NotFound

from app.web.mms import explain, mark

ONLY_MANAGEMENT = {"management"}
BOTH = {"ops"}


def guard_ports(app: Flask, port: int, management_port: int) -> None:
    """Answer 404 at the management port to everything that is not management's, and the other way round."""

    def refuse() -> Response | None:
        # SERVER_PORT is the socket's own; the Host header is the client's to choose
        at_management = request.environ.get("SERVER_PORT") == str(management_port)
        if request.blueprint in BOTH or at_management == (request.blueprint in ONLY_MANAGEMENT):
            return None
        if at_management:  # in the words of MMS, whose clients are the ones that ask there
            return mark(explain(request.routing_exception or NotFound()))
        abort(404)

    if port == management_port:
        return
    app.before_request(refuse)
