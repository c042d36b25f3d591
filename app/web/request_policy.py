"""Cost of a request by its head, read by the server process before it chooses a thread for the request."""

from __future__ import annotations

from urllib.parse import parse_qs

from app.serving.model import Model
from app.serving.registry import Registry
from app.utils.dispatch import Cost

SHORT_BYTES = 2**16
"""Longest body in bytes that is parsed within a few milliseconds."""
HEALTH = (["ping"], ["healthz"], ["readyz"], ["v2", "health", "live"], ["v2", "health", "ready"])
COMPUTES = ("file", "explain", "result")
"""First path segments of the pages that run a model, whichever it is."""


class RequestPolicy:
    """Policy that estimates the cost of requests.

    Health checks are short, and so are predictions of models that this process computes in a few milliseconds. Requests
    for all other models wait.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def cost(self, path: str, query: str, size: int) -> Cost:
        """Return the cost of a request, as :class:`app.utils.dispatch.Policy` defines it."""
        segments = path.strip("/").split("/")
        if segments in HEALTH:
            return Cost.SHORT
        match segments:
            case ["predictions" | "predict", name, *_] | ["models", name, "invoke"] | [name, "predict"]:
                return self._of_model(name, size)
            case ["v2", "models", name, *_, "infer"]:
                return self._of_model(name, size)
            case ["invocations"]:
                names = parse_qs(query).get("model_name") or self._registry.names()
                return self._of_model(names[0], size) if len(names) == 1 else Cost.WAITS
            case [first, *_] if first in COMPUTES:
                return Cost.WAITS
        return Cost.NORMAL

    def _of_model(self, name: str, size: int) -> Cost:
        model = self._registry.loaded(name)
        if isinstance(model, Model) and getattr(model.engine, "is_short", False):
            return Cost.SHORT if size <= SHORT_BYTES else Cost.NORMAL
        return Cost.WAITS  # unknown models, too: the model may be loading at this moment
