"""Measure every request: by the model that it asked, its route and its answer."""

from __future__ import annotations

import time

from flask import g, request

from app.request_id import FACTS
from app.telemetry import measuring
from app.web.context import dimple


def asked_model() -> str:
    """The model that the present request has asked for an answer: empty where none, ``other`` where one that there is
    not. Labels must be a few known words, whatever is sent."""
    name = measuring.asked.get()
    return name if not name or name in dimple().registry else measuring.OTHER


def asked_route() -> str:
    """The rule of the present request's route, such as ``/predict/<model>``; ``other`` where there is none."""
    return request.url_rule.rule if request.url_rule else measuring.OTHER


def begin_measuring() -> None:
    """Begin with the present request."""
    measuring.asked.set("")
    g.started = time.perf_counter()


def forget_measuring() -> bool:
    """Do not measure the present request: it is not answered yet. Return whether it had not been measured."""
    return g.pop("started", None) is not None


def measure(status: int) -> None:
    """Measure the present request, unless it has been."""
    if (started := g.pop("started", None)) is None:
        return
    model, route = asked_model(), asked_route()
    measuring.request(model, route, status, time.perf_counter() - started)
    request.environ.setdefault(FACTS, {}).update(model=model, route=route)
