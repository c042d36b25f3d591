"""Which of the two APIs answers at the port that a request came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app, request

from app.settings import Settings

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


class Ports:
    """What answers at each port of a server."""

    def __init__(self, settings: Settings) -> None:
        if settings.port == settings.management_port:
            self._management = self._others = Asked(inference=True, management=True)
        else:
            metrics = True if settings.metrics_at == "both" else None
            self._management = Asked(inference=False, management=True, metrics=metrics)
            self._others = Asked(inference=True, management=False, metrics=metrics)
        self._management_port = str(settings.management_port)

    def asked(self) -> Asked:
        """What answers at the port of the present request. SERVER_PORT is the socket's own; the Host header is the
        client's to choose."""
        at_management = request.environ.get("SERVER_PORT") == self._management_port
        return self._management if at_management else self._others


def asked() -> Asked:
    """What answers at the port of the present request."""
    return cast(Ports, current_app.extensions["ports"]).asked()
