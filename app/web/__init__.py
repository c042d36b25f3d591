"""The web application: blueprints, middleware and error handlers."""

from __future__ import annotations

from flask import Flask

from app.settings import Settings
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
from app.web.request_policy import RequestPolicy

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
