"""Ports: which API answers at each, and which routes it has.

Programs get the words of Multi Model Server also where nothing answers. Browsers get ours, but at the management port,
and under the names that are MMS's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import Response, abort, current_app, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.settings import Settings
from app.web.csrf import check_addressed_here
from app.web.errors import mms_error_response, oip_error_response
from app.web.request import wants_html

METRICS = "metrics"
MANAGEMENT = ("management", "manage", METRICS)
BOTH = ("ops", "openapi", "login")
"""Blueprints, by where they answer; all others answer with inference."""


@dataclass(frozen=True)
class PortScope:
    """What answers here. Where both ports are the same, as in SageMaker's containers, everything does. ``metrics`` says
    that those are told; None leaves it to where management answers."""

    inference: bool
    management: bool
    metrics: bool | None = None

    def answers(self, blueprint: str) -> bool:
        """Say whether a blueprint answers here. What belongs to none answers with inference."""
        if blueprint == METRICS and self.metrics is not None:
            return self.metrics
        return blueprint in BOTH or (self.management if blueprint in MANAGEMENT else self.inference)


class Ports:
    """What answers at each port of a server."""

    def __init__(self, settings: Settings) -> None:
        if settings.port == settings.management_port:
            self._management = self._others = PortScope(inference=True, management=True)
        else:
            metrics = True if settings.metrics_at == "both" else None
            self._management = PortScope(inference=False, management=True, metrics=metrics)
            self._others = PortScope(inference=True, management=False, metrics=metrics)
        self._management_port = str(settings.management_port)

    def scope(self) -> PortScope:
        """Return what answers at the port of the present request. SERVER_PORT is the socket's own; the Host header is
        the client's to choose."""
        at_management = request.environ.get("SERVER_PORT") == self._management_port
        return self._management if at_management else self._others


def port_scope() -> PortScope:
    """Return what answers at the port of the present request."""
    return cast(Ports, current_app.extensions["ports"]).scope()


OF_MANAGEMENT = ("api-description", "models")
OF_INFERENCE = ("api-description", "invocations", "ping", "predictions")
"""First segments of the paths that are MMS's."""
OIP = "v2"
"""That of the paths of the Open Inference Protocol, which has errors of its own."""


def refuse_at_port(here: PortScope) -> Response | None:
    """Answer 404 at the management port to everything that is not management's, and the other way round.

    :param here: what answers at the port of the present request.
    """
    problem = request.routing_exception
    allowed = here.answers(request.blueprint or "")
    if here.management and (
        request.blueprint in MANAGEMENT or (not here.inference and (allowed or request.path == "/"))
    ):
        check_addressed_here()
    if request.path == "/" and (request.method == "OPTIONS" or not here.inference):
        # OPTIONS would otherwise be answered by Flask, for the page
        return cast(Response, current_app.view_functions["openapi.root"]())
    if allowed and not isinstance(problem, NotFound | MethodNotAllowed):
        return None
    segment = request.path.strip("/").partition("/")[0]
    if here.inference and segment == OIP and problem:
        return oip_error_response(problem)
    of_a_program = not wants_html() and (isinstance(problem, NotFound) or not segment)
    if not here.inference or of_a_program or segment in (*OF_MANAGEMENT, *OF_INFERENCE):
        return mms_error_response(_as_mms_error(problem, segment, here))
    return None if allowed else abort(404)


def _as_mms_error(problem: Exception | None, segment: str, here: PortScope) -> Exception:
    """Return a wrong method counts as one only where the port has the path at all."""
    known = (
        not segment or (here.management and segment in OF_MANAGEMENT) or (here.inference and segment in OF_INFERENCE)
    )
    return problem if known and isinstance(problem, MethodNotAllowed) else NotFound()
