"""Every address of the application, and its middleware."""

from __future__ import annotations

from flask import Flask

from app.settings import Settings
from app.web import metrics, ops, predict
from app.web.around.proxies import believe_proxies
from app.web.errors import register_error_handlers
from app.web.middleware import Middleware
from app.web.mms import management
from app.web.mms import views as mms
from app.web.oip import views as oip
from app.web.openapi import views as openapi
from app.web.pages import explain, live, login, manage, results
from app.web.pages import views as pages
from app.web.request_policy import RequestPolicy

ROOMS = (pages, results, explain, live, manage, predict, mms, management, ops, metrics, openapi, oip, login)


def wire(app: Flask, settings: Settings) -> None:
    """Let the application answer."""
    Middleware(app, settings)
    for room in ROOMS:
        app.register_blueprint(room.bp)
    believe_proxies(app, settings)
    register_error_handlers(app)
    app.extensions["request_policy"] = RequestPolicy(app.extensions["dimple"].registry)
