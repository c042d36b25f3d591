"""Instrumentation of requests: ids, metrics, and traces for OpenTelemetry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Response, g, request

from app.telemetry import metrics
from app.telemetry.request_id import ENVIRON_KEY, HEADER, current, request_id_of
from app.web.request import services


def request_id() -> str:
    """Return the id of the present request, which a handler is told, too."""
    if "request_id" not in g:
        # Multi Model Server gives every request a number of its own, whatever the client has sent
        header = None if services().settings.log_style == "mms" else request.headers.get(HEADER)
        g.request_id = request_id_of(header)
    return str(g.request_id)


def begin_request_id() -> None:
    """Give the present request its id."""
    identity = request_id()
    current.set(identity)
    request.environ[ENVIRON_KEY] = {"request_id": identity}


def add_request_id(response: Response) -> None:
    """Add the header."""
    response.headers[HEADER] = request_id()


def end_request_id() -> None:
    """The thread has no request any more."""
    current.set("")


def requested_model() -> str:
    """Return the model that the present request has asked for an answer: empty where none, ``other`` where one that
    there is not. Labels must be a few known words, whatever is sent."""
    name = metrics.requested_model.get()
    return name if not name or name in services().registry else metrics.OTHER


def route_rule() -> str:
    """Return the rule of the present request's route, such as ``/predict/<model>``; ``other`` where there is none."""
    return request.url_rule.rule if request.url_rule else metrics.OTHER


def begin_measuring() -> None:
    """Begin with the present request."""
    metrics.requested_model.set("")
    g.started = time.perf_counter()


def forget_measuring() -> bool:
    """Do not measure the present request: it is not answered yet. Return whether it had not been measured."""
    return g.pop("started", None) is not None


def measure(status: int) -> None:
    """Measure the present request, unless it has been."""
    if (started := g.pop("started", None)) is None:
        return
    model, route = requested_model(), route_rule()
    metrics.request(model, route, status, time.perf_counter() - started)
    request.environ.setdefault(ENVIRON_KEY, {}).update(model=model, route=route)


NANOSECONDS = 1_000_000_000
ERROR = 500


@dataclass(frozen=True)
class RequestTracer:
    """Functions to call when a request begins, when it has its response, and when it ends; the last is given whether it
    was answered: if not, it comes again, and this time leaves no span."""

    begin: Callable[[], None]
    answered: Callable[[Response], None]
    end: Callable[[bool], None]


def trace_requests(endpoint: str) -> RequestTracer:
    """Prepare to send the traces of an application's requests to a collector. The trace of a ``traceparent`` (W3C Trace
    Context) is gone on with; all else that the standard variables of OpenTelemetry say is followed.

    :param endpoint: the URL to which traces are posted, as protocol buffers.
    """
    from opentelemetry import context, propagate, trace

    tracer = _tracer(endpoint)

    def begin() -> None:
        span = tracer.start_span(
            f"{request.method} {route_rule()}",
            context=propagate.extract({name.lower(): text for name, text in request.headers.items()}),
            kind=trace.SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "http.route": route_rule(),
                "url.path": request.path,
                "dimple.request_id": request_id(),
            },
        )
        g.traced = span, context.attach(trace.set_span_in_context(span))

    def answered(response: Response) -> None:
        if "traced" in g:
            g.traced[0].set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= ERROR:
                g.traced[0].set_status(trace.StatusCode.ERROR)

    def end(is_answered: bool) -> None:
        if (traced := g.pop("traced", None)) is None:
            return
        span, token = traced
        if is_answered:
            if model := requested_model():
                span.set_attribute("dimple.model", model)
            span.end()
        context.detach(token)

    def stage(name: str, ago: float, took: float) -> None:
        if trace.get_current_span().is_recording():
            began = time.time_ns() - int(ago * NANOSECONDS)
            tracer.start_span(name, start_time=began).end(began + int(took * NANOSECONDS))

    metrics.follow_stages(stage)
    return RequestTracer(begin, answered, end)


def _tracer(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource({"service.name": "dimple"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create().merge(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider.get_tracer("dimple")
