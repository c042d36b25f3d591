"""Where the documents are: MMS's at ``OPTIONS /`` and ``/api-description``, ours at ``/openapi.json``, for people at
``/docs``. Each port tells about what answers there."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, render_template, request, send_from_directory
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.web.apidocs import mms_inference, mms_management
from app.web.apidocs.mms_parts import Json, document
from app.web.apidocs.openapi import describe_all
from app.web.around.asked import asked
from app.web.errors import mms_error_response
from app.web.mms.responses import json_response, mark

bp = Blueprint("apidocs", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/own")

ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SWAGGER_UI = "flask_swagger_ui"
"""The Python package that brings Swagger UI's files; nothing of it is imported."""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""For the page alone: it loads our own files, asks this server, and draws its icons from ``data:`` addresses."""
DAY = 24 * 3600


@bp.route("/", methods=["OPTIONS"])
def root() -> Response:
    """Multi Model Server's document about this port. It answers no other method here; at the inference port, GET is
    Dimple's page all the same."""
    if request.method != "OPTIONS":
        return mms_error_response(MethodNotAllowed())
    return mark(json_response(mms_document(), newline=True))


@bp.route("/api-description", methods=ANY_METHOD, strict_slashes=False)
def api_description() -> Response:
    """The same document, at MMS's older address."""
    return mark(json_response(mms_document(), newline=True))


@bp.route("/api-description/<path:ignored>", methods=ANY_METHOD)
def no_api_description(ignored: str) -> Response:
    """Nothing; MMS calls it a wrong method."""
    return mms_error_response(MethodNotAllowed())


@bp.get("/openapi.json")
def openapi() -> Response:
    """Everything that answers at this port, as an OpenAPI 3.1 document."""
    return jsonify(describe_all(current_app, asked()))


@bp.get("/docs", strict_slashes=False)
def docs() -> Response:
    """The same for people, with forms to try it out."""
    _swagger_ui()
    response = Response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = POLICY
    return response


@bp.get("/docs/<name>")
def docs_file(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in FILES:
        raise NotFound
    return send_from_directory(_swagger_ui(), name, max_age=DAY)


def mms_document() -> Json:
    """MMS's document about the port that is asked; where both are one, about both APIs."""
    here = asked()
    paths = (mms_inference.PATHS if here.inference else {}) | (mms_management.PATHS if here.management else {})
    return document("Model Server APIs", paths, "What this server answers to clients of Multi Model Server.")


@lru_cache
def _swagger_ui() -> Path:
    found = importlib.util.find_spec(SWAGGER_UI)
    if found is None or found.origin is None:
        raise NotFound("The package flask-swagger-ui is missing. /openapi.json tells the same.")
    return Path(found.origin).with_name("dist")
