"""Which of the two APIs answers at the port that a request came to."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request

from app.web.context import dimple

METRICS = "metrics"
MANAGEMENT = ("management", "manage", METRICS)
BOTH = ("ops", "openapi", "login")
"""Blueprints, by where they answer; all others answer with inference."""


@dataclass(frozen=True)
class Asked:
    """What answers here. Where both ports are the same, as in SageMaker's containers, everything does. ``metrics`` says
    that those are told; None leaves it to where management answers."""

    inference: bool
    management: bool
    metrics: bool | None = None

    def answers(self, room: str) -> bool:
        """Say whether a blueprint answers here. What belongs to none answers with inference."""
        if room == METRICS and self.metrics is not None:
            return self.metrics
        return room in BOTH or (self.management if room in MANAGEMENT else self.inference)


def asked() -> Asked:
    """What answers at the port of the present request."""
    settings = dimple().settings
    if settings.port == settings.management_port:
        return Asked(inference=True, management=True)
    # SERVER_PORT is the socket's own; the Host header is the client's to choose
    at_management = request.environ.get("SERVER_PORT") == str(settings.management_port)
    metrics = True if settings.metrics_at == "both" else None
    return Asked(inference=not at_management, management=at_management, metrics=metrics)
