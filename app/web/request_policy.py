"""What a request costs, by its head: read by the server process before it decides which thread answers it."""

from __future__ import annotations

from urllib.parse import parse_qs

from app.serving.model import Model
from app.serving.registry import Registry
from app.utils.dispatch import Cost

SHORT_BYTES = 2**16
"""Of a body that is taken apart within a few milliseconds."""
HEALTH = (["ping"], ["healthz"], ["readyz"], ["v2", "health", "live"], ["v2", "health", "ready"])
COMPUTES = ("file", "explain", "result")
"""First segments of the paths of pages that have a model compute, whichever it is."""


class RequestPolicy:
    """Health is short, and so is a prediction of a model that this process computes in a few milliseconds. Whatever
    waits for another model waits."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def cost(self, path: str, query: str, size: int) -> Cost:
        """Return what a request takes, as :class:`app.utils.dispatch.Policy` has it."""
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
        return Cost.WAITS  # one that is not there, too: it may be loading at this moment
