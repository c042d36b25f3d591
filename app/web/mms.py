"""The inference API of Multi Model Server (awslabs/multi-model-server 1.1), for programs that were written for it.

Methods are not checked, because MMS does not check them: ``curl -T`` sends PUT, and old clients predict with GET.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

from flask import Blueprint, Response, make_response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from app.errors import (
    BadInput,
    DimpleError,
    DownloadFailed,
    HandlerLoadError,
    MissingParameter,
    ModelConflict,
    ModelFormatError,
    ModelNotFound,
    ModelNotInStore,
    ModelUnavailable,
)
from app.serving.calls import call
from app.serving.handled import Field, HandledModel, HandlerRequest
from app.web.context import dimple
from app.web.fields import read_fields
from app.web.problems import drain, problem_of

log = logging.getLogger(__name__)

bp = Blueprint("mms", __name__)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
UNFORESEEN = "InternalServerException"
KINDS: tuple[tuple[type[DimpleError | HTTPException], int | None, str], ...] = (
    (ModelNotFound, 404, "ModelNotFoundException"),
    (ModelNotInStore, 404, "ModelNotFoundException"),
    (ModelConflict, 409, "ConflictStatusException"),
    (ModelUnavailable, 503, "ServiceUnavailableException"),
    (DownloadFailed, 400, "DownloadModelException"),
    (HandlerLoadError, None, UNFORESEEN),
    (ModelFormatError, 400, "InvalidModelException"),
    (RequestEntityTooLarge, 413, "RequestEntityTooLargeException"),
    (MethodNotAllowed, 405, "MethodNotAllowedException"),
    (BadInput, None, "BadRequestException"),
    (NotFound, 404, "ResourceNotFoundException"),
)
"""What MMS calls an error, by the first class that fits; a code of None is Dimple's own for that error."""
MESSAGES: dict[type[Exception], str] = {
    MethodNotAllowed: "Requested method is not allowed, please refer to API document.",
    NotFound: "Requested resource is not found, please refer to API document.",
}
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
    return json_response({"status": word}, newline=True)


@bp.route("/predictions/<model>", methods=METHODS, strict_slashes=False)
@bp.route("/predictions/<model>/<path:ignored>", methods=METHODS)
def predictions(model: str, ignored: str = "") -> Response:
    """Classify a picture: the body, or a part of a form that is called as the input is, ``body`` or ``data``."""
    return _answer(model, with_query=False)


@bp.route("/models/<model>/invoke", methods=METHODS, strict_slashes=False)
@bp.route("/<model>/predict", methods=METHODS, strict_slashes=False)
def predict(model: str) -> Response:
    """The same; a handler gets the query's parameters, too."""
    return _answer(model, with_query=True)


@bp.route("/invocations", methods=METHODS, strict_slashes=False)
def invoke() -> Response:
    """Classify a picture by the model of the parameter ``model_name``, or by the only one there is (SageMaker)."""
    name = request.args.get("model_name") or request.form.get("model_name")
    names = dimple().registry.names()
    if name is None and len(names) != 1:
        raise MissingParameter("model_name")
    return _answer(name or names[0], with_query=True)


def _answer(name: str, with_query: bool) -> Response:
    model = dimple().registry.served(name)
    fields = read_fields(with_query)
    if isinstance(model, HandledModel):
        return _handled(model, fields)
    answer = call(model, {field.name: field.data for field in fields}, dimple().settings.max_pixels)
    return json_response(answer)


def _handled(model: HandledModel, fields: tuple[Field, ...]) -> Response:
    """What a model's own code says: its body as it is, or the error that it ended in."""
    said = model.answer(HandlerRequest(str(uuid.uuid4()), fields, dict(request.headers)))
    if said.error:
        kind, message = said.error
        return error_response(said.status, kind, message)
    response = make_response(said.body, f"{said.status} {said.phrase}".rstrip())
    # MMS sends none where the handler sets none; for the JSON that most write, it is true and harms nobody
    response.headers["Content-Type"] = said.content_type or _guessed(said.body)
    response.headers.update(said.headers)
    return response


def _guessed(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def json_response(document: Any, status: int = 200, newline: bool = False) -> Response:
    """MMS's own JSON: two spaces deep; what a model says ends without a newline, what the server says with one."""
    text = json.dumps(document, indent=2) + ("\n" if newline else "")
    return make_response(text, status, {"Content-Type": "application/json"})


@bp.errorhandler(Exception)
def explain(error: Exception) -> Response:
    """An error in MMS's words where it has them, and in ours where it has none."""
    problem = problem_of(error)
    if isinstance(error, RequestEntityTooLarge):
        drain()
    code, kind = next(((code, kind) for of, code, kind in KINDS if isinstance(error, of)), (None, UNFORESEEN))
    status = code or problem.code
    message = MESSAGES.get(type(error), problem.message)
    if isinstance(error, ModelNotFound):
        message = f"Model not found: {error.name}"
    if isinstance(error, HandlerLoadError):
        status, message = error.code, "Failed to start workers"
        log.error("%s", error)
    return error_response(status, kind, message)


def error_response(status: int, kind: str, message: str) -> Response:
    """An error as MMS writes it."""
    return json_response({"code": status, "type": kind, "message": message}, status, newline=True)


@bp.after_request
def mark(response: Response) -> Response:
    """The headers that MMS sends with everything."""
    response.headers["x-request-id"] = str(uuid.uuid4())
    response.headers.update(UNCACHED)
    return response
