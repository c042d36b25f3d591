"""Which routes answer at which port: management never answers where everybody may ask."""

from __future__ import annotations

from flask import Flask, abort, request

MANAGEMENT_BLUEPRINTS = {"ops"}


def guard_ports(app: Flask, management_port: int) -> None:
    """Answer 404 at the management port to everything that is not management's."""

    def refuse() -> None:
        # SERVER_PORT is the socket's own; the Host header is the client's to choose
        at_management = request.environ.get("SERVER_PORT") == str(management_port)
        if at_management and request.blueprint not in MANAGEMENT_BLUEPRINTS:
            abort(404)

    app.before_request(refuse)
