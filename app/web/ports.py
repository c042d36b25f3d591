"""Ports: the APIs and routes that answer at each.

Programs get Multi Model Server's error responses even for unknown paths. Browsers get Dimple's error pages, except at
the management port and under MMS's paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import Response, abort, current_app, redirect, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.settings import Settings
from app.web.csrf import check_addressed_here
from app.web.errors import mms_error_response, oip_error_response
from app.web.request import wants_html

METRICS = "metrics"
MANAGEMENT = ("management", "manage", "teach", METRICS)
BOTH = ("ops", "openapi", "login", "icon")
"""Blueprints by port; all others belong to inference."""


@dataclass(frozen=True)
class PortScope:
    """APIs that answer at a port. If both ports are the same, as in SageMaker's containers, all APIs answer.

    :param metrics: whether the metrics answer; if None, they answer together with management.
    """

    inference: bool
    management: bool
    metrics: bool | None = None

    def answers(self, blueprint: str) -> bool:
        """Return whether a blueprint answers at this port. Routes without a blueprint belong to inference."""
        if blueprint == METRICS and self.metrics is not None:
            return self.metrics
        return blueprint in BOTH or (self.management if blueprint in MANAGEMENT else self.inference)


class Ports:
    """Scopes of a server's ports."""

    def __init__(self, settings: Settings) -> None:
        if settings.port == settings.management_port:
            self._management = self._others = PortScope(inference=True, management=True)
        else:
            metrics = True if settings.metrics_at == "both" else None
            self._management = PortScope(inference=False, management=True, metrics=metrics)
            self._others = PortScope(inference=True, management=False, metrics=metrics)
        self._management_port = str(settings.management_port)

    def scope(self) -> PortScope:
        """Return the scope of the current request's port. SERVER_PORT is the socket's own; clients can choose the Host
        header."""
        at_management = request.environ.get("SERVER_PORT") == self._management_port
        return self._management if at_management else self._others


def port_scope() -> PortScope:
    """Return the scope of the current request's port."""
    return cast(Ports, current_app.extensions["ports"]).scope()


OF_MANAGEMENT = ("api-description", "models")
OF_INFERENCE = ("api-description", "invocations", "ping", "predictions")
"""First path segments of MMS's APIs."""
OIP = "v2"
"""First path segment of the Open Inference Protocol, which has its own error format."""


def refuse_at_port(here: PortScope) -> Response | None:
    """Respond with an error to requests for routes of the other port or unknown routes; return None for all others.

    :param here: scope of the current request's port.
    """
    problem = request.routing_exception
    allowed = here.answers(request.blueprint or "")
    if here.management and (
        request.blueprint in MANAGEMENT or (not here.inference and (allowed or request.path == "/"))
    ):
        check_addressed_here()
    if request.path == "/" and not here.inference and request.method in ("GET", "HEAD") and wants_html():
        return cast(Response, redirect("/manage/"))  # a browser's; MMS's clients get what MMS answers
    if request.path == "/" and (request.method == "OPTIONS" or not here.inference):
        # Flask would otherwise answer OPTIONS for the page
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
    """Return the error that MMS would report: a wrong method counts only if the path exists at this port."""
    known = (
        not segment or (here.management and segment in OF_MANAGEMENT) or (here.inference and segment in OF_INFERENCE)
    )
    return problem if known and isinstance(problem, MethodNotAllowed) else NotFound()
