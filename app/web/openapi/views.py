"""Routes of the API documents: Multi Model Server's at ``OPTIONS /`` and ``/api-description``, Dimple's own at
``/openapi.json`` and, as a page, at ``/docs``. Each port has those of its own API."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, jsonify, render_template, request, send_from_directory
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.web.around.asked import asked
from app.web.errors import mms_error_response
from app.web.mms.responses import json_response, mark
from app.web.openapi.documents import mms_document, own_document

bp = Blueprint("openapi", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/own")

ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SWAGGER_UI = "flask_swagger_ui"
"""The Python package with Swagger UI's files; it is not imported."""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Of the page, which loads Dimple's own files, sends requests to this server, and has icons in ``data:`` URLs."""
DAY = 24 * 3600


@bp.route("/", methods=["OPTIONS"])
def root() -> Response:
    """Return Multi Model Server's document. It answers no other method here; Dimple's page answers GET at the inference
    port."""
    if request.method != "OPTIONS":
        return mms_error_response(MethodNotAllowed())
    return mark(json_response(mms_document(asked()), newline=True))


@bp.route("/api-description", methods=ANY_METHOD, strict_slashes=False)
def api_description() -> Response:
    """Return the same document, at an older address."""
    return mark(json_response(mms_document(asked()), newline=True))


@bp.route("/api-description/<path:ignored>", methods=ANY_METHOD)
def no_api_description(ignored: str) -> Response:
    """Refuse longer paths as Multi Model Server does: as a wrong method."""
    return mms_error_response(MethodNotAllowed())


@bp.get("/openapi.json")
def document() -> Response:
    """Return Dimple's own OpenAPI document of this port."""
    return jsonify(own_document(asked()))


@bp.get("/docs", strict_slashes=False)
def docs() -> Response:
    """Return a page that shows the same document, with forms to try it out."""
    _swagger_ui()
    response = Response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = POLICY
    return response


@bp.get("/docs/<name>")
def docs_file(name: str) -> Response:
    """Return a file of Swagger UI."""
    if name not in FILES:
        raise NotFound
    return send_from_directory(_swagger_ui(), name, max_age=DAY)


@lru_cache
def _swagger_ui() -> Path:
    found = importlib.util.find_spec(SWAGGER_UI)
    if found is None or found.origin is None:
        raise NotFound("The package flask-swagger-ui is not installed. /openapi.json has the document.")
    return Path(found.origin).with_name("dist")
