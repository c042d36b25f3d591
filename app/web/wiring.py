"""Every address, and what happens around every request, put together in the order in which it happens."""

from __future__ import annotations

from flask import Flask

from app.settings import Settings
from app.traces import trace_endpoint
from app.web import metrics, ops, predict
from app.web.around.counting import measure_requests
from app.web.around.encodings import unpack_bodies
from app.web.around.guard import guard_access
from app.web.around.headers import protect
from app.web.around.ports import guard_ports
from app.web.around.proxies import believe_proxies
from app.web.around.request_ids import give_request_ids
from app.web.around.tracing import trace_requests
from app.web.bodies import drain_bodies
from app.web.errors import register_error_handlers
from app.web.mms import management
from app.web.mms import views as mms
from app.web.oip import views as oip
from app.web.openapi import views as openapi
from app.web.pages import explain, live, login, manage, results
from app.web.pages import views as pages

ROOMS = (pages, results, explain, live, manage, predict, mms, management, ops, metrics, openapi, oip, login)


def wire(app: Flask, settings: Settings) -> None:
    """Let the application answer."""
    give_request_ids(app)
    measure_requests(app)
    if endpoint := trace_endpoint(settings):
        trace_requests(app, endpoint)
    app.before_request(app.extensions["dimple"].registry.refresh)  # before anybody looks for a model
    for room in ROOMS:
        app.register_blueprint(room.bp)
    protect(app)  # first: who asks whether he may ask has no token yet
    guard_ports(app)
    guard_access(app)
    unpack_bodies(app)
    believe_proxies(app, settings)
    register_error_handlers(app)
    drain_bodies(app)
