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
    """Return the id of the current request, which is also passed to handlers."""
    if "request_id" not in g:
        # Multi Model Server assigns an id to every request, whatever header the client sends
        header = None if services().settings.log_style == "mms" else request.headers.get(HEADER)
        g.request_id = request_id_of(header)
    return str(g.request_id)


def begin_request_id() -> None:
    """Assign an id to the current request."""
    identity = request_id()
    current.set(identity)
    request.environ[ENVIRON_KEY] = {"request_id": identity}


def add_request_id(response: Response) -> None:
    """Add the request id header."""
    response.headers[HEADER] = request_id()


def end_request_id() -> None:
    """Clear the request id of the thread."""
    current.set("")


def requested_model() -> str:
    """Return the model that the current request names: empty if none, ``other`` if the model does not exist.

    Metric labels must come from a small known set, whatever clients send.
    """
    name = metrics.requested_model.get()
    return name if not name or name in services().registry else metrics.OTHER


def route_rule() -> str:
    """Return the rule of the current request's route, such as ``/predict/<model>``; ``other`` if no route matches."""
    return request.url_rule.rule if request.url_rule else metrics.OTHER


def begin_measuring() -> None:
    """Start to measure the current request."""
    metrics.requested_model.set("")
    g.started = time.perf_counter()


def forget_measuring() -> bool:
    """Discard the measurement of the current request, which is not answered yet. Return whether one was in progress."""
    return g.pop("started", None) is not None


def measure(status: int) -> None:
    """Measure the current request, unless it has been measured already."""
    if (started := g.pop("started", None)) is None:
        return
    model, route = requested_model(), route_rule()
    metrics.request(model, route, status, time.perf_counter() - started)
    request.environ.setdefault(ENVIRON_KEY, {}).update(model=model, route=route)


NANOSECONDS = 1_000_000_000
ERROR = 500


@dataclass(frozen=True)
class RequestTracer:
    """Functions to call at the start, at the response and at the end of a request.

    The last takes a flag that is false if the request is not answered yet: it will come again, and leaves no span now.
    """

    begin: Callable[[], None]
    answered: Callable[[Response], None]
    end: Callable[[bool], None]


def trace_requests(endpoint: str) -> RequestTracer:
    """Set up the export of request traces to a collector.

    The trace of a ``traceparent`` header (W3C Trace Context) is continued. OpenTelemetry's other standard variables
    apply.

    :param endpoint: URL to which traces are posted as protocol buffers.
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
