"""Measure every request: by the model that it asked, its route and its answer."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from app.request_id import FACTS
from app.serving import measuring
from app.web.context import dimple


def measure_requests(app: Flask) -> None:
    """Measure from now on. To be called before anything else that looks at requests."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_lost)


def asked_model() -> str:
    """The model that the present request has asked for an answer: empty where none, ``other`` where one that there is
    not. Labels must be a few known words, whatever is sent."""
    name = measuring.asked.get()
    return name if not name or name in dimple().registry else measuring.OTHER


def asked_route() -> str:
    """The rule of the present request's route, such as ``/predict/<model>``; ``other`` where there is none."""
    return request.url_rule.rule if request.url_rule else measuring.OTHER


def _begin() -> None:
    measuring.asked.set("")
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    _measure(response.status_code)
    return response


def _lost(error: BaseException | None) -> None:
    """A request that had no response: its worker is told to go."""
    _measure(500)


def _measure(status: int) -> None:
    if (started := g.pop("started", None)) is None:
        return  # it was measured before
    model, route = asked_model(), asked_route()
    measuring.request(model, route, status, time.perf_counter() - started)
    request.environ.setdefault(FACTS, {}).update(model=model, route=route)
