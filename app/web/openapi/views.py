"""Routes of the API documents, which are filtered for each port from the files next to this module."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request, send_from_directory
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.settings import VERSION
from app.web.errors import mms_error_response
from app.web.mms.messages import json_response, set_no_cache
from app.web.ports import PortScope, port_scope

BLUEPRINTS = {
    "The page": "pages",
    "Pictures": "predict",
    "What an answer rests on": "explain",
    "Multi Model Server: inference": "mms",
    "Multi Model Server: management": "management",
    "Open Inference Protocol": "oip",
    "Health": "ops",
    "Metrics": "metrics",
    "Documents": "openapi",
}
"""Blueprint of each tag's operations."""

Json = dict[str, Any]


def own_document(port: PortScope) -> Json:
    """Return Dimple's OpenAPI 3.1 document with the operations that answer at a port."""

    def answers(tag: str) -> bool:
        return port.answers(BLUEPRINTS[tag])

    whole = _read("openapi.yaml")
    paths = {}
    for path, operations in whole["paths"].items():
        allowed = {
            key: operation
            for key, operation in operations.items()
            if key == "parameters" or answers(operation["tags"][0])
        }
        if set(allowed) - {"parameters"}:
            paths[path] = allowed
    info = {**whole["info"], "version": VERSION}
    return {**whole, "info": info, "tags": [tag for tag in whole["tags"] if answers(tag["name"])], "paths": paths}


def mms_document(port: PortScope) -> Json:
    """Return Multi Model Server's OpenAPI 3.0 document of a port, with both APIs if both answer there."""
    documents = []
    if port.inference:
        documents.append(_read("mms_inference.yaml"))
    if port.management:
        documents.append(_read("mms_management.yaml"))
    return {**documents[0], "paths": {path: item for document in documents for path, item in document["paths"].items()}}


@lru_cache
def _read(name: str) -> Json:
    import yaml  # imported at the first request, because it would slow down every start

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the second is ten times as slow, but always available
    document: Json = yaml.load(Path(__file__).with_name(name).read_text(encoding="utf-8"), loader)
    return document


bp = Blueprint("openapi", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/own")

ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SWAGGER_UI = "flask_swagger_ui"
"""Python package with Swagger UI's files; it is not imported."""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Policy of the page, which loads Dimple's own files, sends requests to this server, and has icons in ``data:``
URLs."""
DAY = 24 * 3600


@bp.route("/", methods=["OPTIONS"])
def root() -> Response:
    """Return Multi Model Server's document. Other methods are rejected; GET is Dimple's page at the inference port."""
    if request.method != "OPTIONS":
        return mms_error_response(MethodNotAllowed())
    return set_no_cache(json_response(mms_document(port_scope()), newline=True))


@bp.route("/api-description", methods=ANY_METHOD, strict_slashes=False)
def api_description() -> Response:
    """Return Multi Model Server's document at its older address."""
    return set_no_cache(json_response(mms_document(port_scope()), newline=True))


@bp.route("/api-description/<path:ignored>", methods=ANY_METHOD)
def no_api_description(ignored: str) -> Response:
    """Reject longer paths as a wrong method, as in Multi Model Server."""
    return mms_error_response(MethodNotAllowed())


@bp.get("/openapi.json")
def document() -> Response:
    """Return Dimple's own OpenAPI document of this port."""
    return jsonify(own_document(port_scope()))


@bp.get("/docs", strict_slashes=False)
def docs() -> Response:
    """Return a page that shows Dimple's document, with forms to send requests."""
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
    spec = importlib.util.find_spec(SWAGGER_UI)
    if spec is None or spec.origin is None:
        raise NotFound("The package flask-swagger-ui is not installed. /openapi.json has the document.")
    return Path(spec.origin).with_name("dist")
