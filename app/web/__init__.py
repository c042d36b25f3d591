"""The web application: blueprints, middleware, error handlers, and the cost of its requests."""

from __future__ import annotations

from urllib.parse import parse_qs

from flask import Flask

from app.serving.model import Model
from app.serving.registry import Registry
from app.settings import Settings
from app.utils.dispatch import Cost
from app.web import api, metrics
from app.web.errors import register_error_handlers
from app.web.metrics import ops_bp
from app.web.middleware import Middleware, trust_proxies
from app.web.mms import management
from app.web.mms import views as mms
from app.web.oip import views as oip
from app.web.openapi import views as openapi
from app.web.pages import about, corrections, explain, login, manage, results, teach
from app.web.pages import views as pages
from app.web.pages.views import icon_bp, live_bp

PAGES = (pages, results, explain, manage, teach, about, login, corrections)
APIS = (api, mms, management, metrics, openapi, oip)
BLUEPRINTS = (live_bp, ops_bp, icon_bp, *(module.bp for module in (*PAGES, *APIS)))


def init_app(app: Flask, settings: Settings) -> None:
    """Register the blueprints, the middleware and the error handlers of an application."""
    Middleware(app, settings)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    trust_proxies(app, settings)
    register_error_handlers(app)
    app.extensions["request_policy"] = RequestPolicy(app.extensions["dimple"].registry)


SHORT_BYTES = 2**16
"""Longest body in bytes that is parsed within a few milliseconds."""
HEALTH = (["ping"], ["healthz"], ["readyz"], ["v2", "health", "live"], ["v2", "health", "ready"])
COMPUTES = ("file", "explain", "result")
"""First path segments of the pages that run a model, whichever it is."""


class RequestPolicy:
    """Policy that estimates the cost of a request by its head, before the server process chooses a thread for it.

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
