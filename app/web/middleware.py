"""What happens before and after every request, whatever it asks, in its order."""

from __future__ import annotations

from typing import cast

from flask import Flask, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from app.dispatch import ADMITTED, HEAD_ONLY, MAX_BODY, OVERLOADED, WouldBlock
from app.errors import QueueFull
from app.settings import Settings
from app.telemetry import measuring
from app.traces import trace_endpoint
from app.web.around.asked import MANAGEMENT, Ports
from app.web.around.counting import begin_measuring, forget_measuring, measure
from app.web.around.encodings import unpack_body
from app.web.around.guard import add_refusal, check_access, guard_access
from app.web.around.headers import Fixed, answer_preflight
from app.web.around.ports import refuse_at_port
from app.web.around.request_ids import add_request_id, begin_request_id, end_request_id
from app.web.around.tracing import trace_requests
from app.web.context import Dimple

CONTINUE = 100
LONG_BODIES = ("manage.register_model",)
"""Endpoints that take archives."""


class Middleware:
    """The hooks of an application."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings = settings
        self._registry = cast(Dimple, app.extensions["dimple"]).registry
        self._ports = app.extensions["ports"] = Ports(settings)
        self._headers = Fixed(settings)
        endpoint = trace_endpoint(settings)
        self._tracer = trace_requests(endpoint) if endpoint else None
        guard_access(app)
        app.before_request(self._before)
        app.after_request(self._after)
        app.teardown_request(self._end)

    def _before(self) -> Response | None:
        begin_request_id()
        begin_measuring()
        if self._tracer:
            self._tracer.begin()
        self._registry.refresh()  # before anything looks for a model
        # first: a browser that asks whether it may ask has no token yet
        answer = (answer_preflight() if self._headers.cors else None) or refuse_at_port(self._ports.asked())
        return answer or self._admit()

    def _admit(self) -> Response | None:
        """Refuse what may not be asked, or cannot be answered, as far as the head tells. Nothing of the body is read
        unless it is packed.

        :returns: for a request whose body has not come, that it may.
        """
        environ = request.environ
        if not environ.get(ADMITTED):
            check_access()
        if environ.get(OVERLOADED):
            name = (request.view_args or {}).get("model") or self._settings.default_model
            measuring.asked.set(name)
            measuring.refused(name)
            raise QueueFull(name)
        if HEAD_ONLY not in environ:
            unpack_body()
            return None
        if request.routing_exception:
            return None  # as Flask is about to find
        unpack_body(head_only=True)
        if request.blueprint not in MANAGEMENT and (name := (request.view_args or {}).get("model")):
            measuring.asked.set(name)
            self._registry.get_ready(name)
        most = self._settings.max_model_bytes if request.endpoint in LONG_BODIES else self._settings.max_request_bytes
        if (request.content_length or 0) > most:
            raise RequestEntityTooLarge()
        environ[MAX_BODY] = most
        return Response(status=CONTINUE)

    def _after(self, response: Response) -> Response:
        add_refusal(response)
        self._headers.add(response)
        if self._tracer:
            self._tracer.answered(response)
        if response.status_code != CONTINUE:
            measure(response.status_code)
        add_request_id(response)
        return response

    def _end(self, error: BaseException | None) -> None:
        comes_again = (HEAD_ONLY in request.environ or isinstance(error, WouldBlock)) and forget_measuring()
        measure(500)  # what had no response: its worker is told to go
        if self._tracer:
            self._tracer.end(not comes_again)
        end_request_id()
