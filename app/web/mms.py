"""The inference API of Multi Model Server (awslabs/multi-model-server 1.1), for programs that were written for it.

Methods are not checked, because MMS does not check them: ``curl -T`` sends PUT, and old clients predict with GET.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from flask import Blueprint, Response, make_response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.errors import BadInput, BadParameter, ModelNotFound, ModelUnavailable
from app.serving.calls import BODY, call
from app.web.context import dimple
from app.web.problems import drain, problem_of

bp = Blueprint("mms", __name__)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
UNCACHED = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache; no-store, must-revalidate, private",
    "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}


@bp.route("/ping", methods=METHODS)
def ping() -> Response:
    """How the models are: all answer, some do, none does. The status is 200 whatever it says; /readyz has another."""
    entries = dimple().registry.entries()
    ready = sum(entry.model is not None for entry in entries)
    word = "Unhealthy" if entries and not ready else "Healthy" if ready == len(entries) else "Partial Healthy"
    return _json({"status": word}, newline=True)


@bp.route("/predictions/<model>", methods=METHODS, strict_slashes=False)
@bp.route("/predictions/<model>/<path:ignored>", methods=METHODS)
@bp.route("/models/<model>/invoke", methods=METHODS, strict_slashes=False)
@bp.route("/<model>/predict", methods=METHODS, strict_slashes=False)
def predict(model: str, ignored: str = "") -> Response:
    """Classify a picture: the body, or a part of a form that is called as the input is, ``body`` or ``data``."""
    return _answer(model)


@bp.route("/invocations", methods=METHODS, strict_slashes=False)
def invoke() -> Response:
    """Classify a picture by the model of the parameter ``model_name``, or by the only one there is (SageMaker)."""
    name = request.args.get("model_name") or request.form.get("model_name")
    names = dimple().registry.names()
    if name is None and len(names) != 1:
        raise BadParameter("model_name", "", f"one of {', '.join(names)}")
    return _answer(name or names[0])


def _answer(name: str) -> Response:
    model = dimple().registry.get(name)
    return _json(call(model, _fields(), dimple().settings.max_pixels))


def _fields() -> dict[str, bytes]:
    """What the request carries, by name; the last one counts where a name is given twice."""
    if request.mimetype == "multipart/form-data":
        fields = {name: value.encode() for name, value in request.form.items(multi=True)}
        return fields | {name: part.read() for name, part in request.files.items(multi=True)}
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) == request.max_content_length:
        raise RequestEntityTooLarge()  # Werkzeug ends a body of unknown length at the limit, silently
    return {BODY: data}


def _json(document: Any, status: int = 200, newline: bool = False) -> Response:
    """MMS's own JSON: two spaces deep; what a model says ends without a newline, what the server says with one."""
    text = json.dumps(document, indent=2) + ("\n" if newline else "")
    return make_response(text, status, {"Content-Type": "application/json"})


@bp.errorhandler(Exception)
def explain(error: Exception) -> Response:
    """An error in MMS's words where it has them, and in ours where it has none."""
    problem = problem_of(error)
    code, kind, message = problem.code, "InternalServerException", problem.message
    if isinstance(error, ModelNotFound):
        kind, message = "ModelNotFoundException", f"Model not found: {error.name}"
    elif isinstance(error, ModelUnavailable):
        kind = "ServiceUnavailableException"
    elif isinstance(error, RequestEntityTooLarge):
        drain()
        kind = "RequestEntityTooLargeException"
    elif isinstance(error, BadInput | HTTPException):
        kind = "BadRequestException"
    return _json({"code": code, "type": kind, "message": message}, code, newline=True)


@bp.after_request
def mark(response: Response) -> Response:
    """The headers that MMS sends with everything."""
    response.headers["x-request-id"] = str(uuid.uuid4())
    response.headers.update(UNCACHED)
    return response
