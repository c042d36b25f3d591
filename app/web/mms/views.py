"""Inference API of Multi Model Server (awslabs/multi-model-server 1.1), for existing clients.

Methods are not checked, as in MMS: ``curl -T`` sends PUT, and old clients predict with GET. Only OPTIONS differs: it
describes the model.
"""

from __future__ import annotations

import re

from flask import Blueprint, Response, abort, make_response, request

from app.errors import InvalidHandlerResponse, MissingParameter, ModelNotFound
from app.serving.custom_model import CustomModel, Field, HandlerAnswer, HandlerRequest
from app.serving.loader import Entry
from app.web.errors import mms_error, mms_error_response
from app.web.instrumentation import request_id
from app.web.json import parse_json
from app.web.mms.messages import (
    OTHERS,
    URLENCODED,
    call,
    json_response,
    model_document,
    read_fields,
    set_no_cache,
    text_response,
    with_pictures,
    wrap_answer,
    wrap_body,
)
from app.web.mms.sagemaker import answer_tensor, holds_tensor
from app.web.request import client_disconnected, services

bp = Blueprint("mms", __name__)
bp.register_error_handler(Exception, mms_error_response)
bp.after_request(set_no_cache)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
UNHEALTHY = "Unhealthy"
LIVE = ("READY", "LOADING")
"""Worker states that count as live in ``/ping``."""
CONNECTION = ("connection", "content-length", "keep-alive", "transfer-encoding", "upgrade")
"""Connection-specific headers, which a handler cannot set."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Name and value of a header (RFC 9110, section 5)."""
JSON_TYPE, TEXT_TYPE = "application/json", "text/plain; charset=utf-8"
LONGEST_GUESSED = 2**20
MOST_DEPTH = 500


@bp.route("/ping", methods=METHODS, strict_slashes=False)
@bp.route("/ping/<path:ignored>", methods=METHODS)
def ping(ignored: str = "") -> Response:
    """Return the health of the models: all workers are live, some are, or none is.

    The status is 200 in each case, unless the settings choose 503 for the last; /readyz always uses 503. Loading
    workers count as live. A model without workers is not counted as missing, and a server without models is
    healthy.
    """
    entries = services().registry.entries()
    expected = sum(entry.registration.min_workers for entry in entries)
    live = sum(min(_live(entry), entry.registration.min_workers) for entry in entries)
    word = "Healthy" if live >= expected else "Partial Healthy" if live else UNHEALTHY
    status = 503 if word == UNHEALTHY and services().settings.ping_status else 200
    return json_response({"status": word}, status, newline=True)


def _live(entry: Entry) -> int:
    """Return the number of live workers of a model. Dimple's own engines live in the server."""
    if isinstance(entry.model, CustomModel):
        return sum(status.state.value in LIVE for status in entry.model.workers())
    return entry.registration.min_workers if entry.model else 0


@bp.route("/predictions/<model>", methods=METHODS, strict_slashes=False)
@bp.route("/predictions/<model>/<path:ignored>", methods=METHODS)
def predictions(model: str, ignored: str = "") -> Response:
    """Classify an image: the body, or the form field named as the input, ``body`` or ``data``."""
    return _answer(model, with_query=False)


@bp.route("/predictions", methods=METHODS, strict_slashes=False)
def no_model() -> Response:
    """Respond with 404, because the model's name is missing."""
    abort(404)


@bp.route("/models/<model>/invoke", methods=METHODS, strict_slashes=False)
def invoke_model(model: str) -> Response:
    """Classify an image with one of several models, as in SageMaker. A handler gets the query's parameters, too."""
    return _answer(model, with_query=True, tensors=True)


@bp.route("/<model>/predict", methods=METHODS, strict_slashes=False)
def predict(model: str) -> Response:
    """Classify an image at the route of MMS 0.4. A model of a 0.x archive responds with 0.4's ``{"prediction": …}``.

    Every other archive responds with the bare list of 1.x, for the reasons in ``app/web/mms/messages.py``.
    """
    return _answer(model, with_query=True, legacy_route=True)


@bp.route("/invocations", methods=METHODS, strict_slashes=False)
def invoke() -> Response:
    """Classify an image with the model of the parameter ``model_name``, in the query or in a form.

    MMS documents the form but does not support it. The parameter is optional if one model is loaded at startup, or only
    one model answers.
    """
    name = request.args.get("model_name")
    name = request.form.get("model_name") if name is None else name
    return _answer(name or _only_model(name), with_query=True, tensors=True)


def _only_model(name: str | None) -> str:
    """Return the default model if a request names none. As in MMS, an empty name is otherwise an unknown model."""
    entries = services().registry.entries()
    for names in ([entry.name for entry in entries if entry.at_startup], services().registry.names()):
        if len(names) == 1:
            return names[0]
    if name is None:
        raise MissingParameter("model_name")
    raise ModelNotFound(name, services().registry.names())


def _answer(name: str, with_query: bool, legacy_route: bool = False, tensors: bool = False) -> Response:
    if request.method == "OPTIONS":
        return json_response(model_document(services().registry.entry(name).name), newline=True)
    with services().registry.acquire(name) as model:
        fields = read_fields(with_query)
        as_legacy = legacy_route and model.legacy
        if as_legacy:
            fields = with_pictures(fields)
        elif request.mimetype == URLENCODED and not isinstance(model, CustomModel):
            fields = with_pictures(fields, OTHERS)  # such a form can carry an image only in Base64
        if isinstance(model, CustomModel):
            return _answer_custom(model, fields, as_legacy)
        if tensors and fields and holds_tensor(fields[-1].data):
            return answer_tensor(model, fields[-1].data, services().settings)
        answer = call(model, fields, services().settings.picture_limits, client_disconnected())
        return text_response(wrap_answer(answer)) if as_legacy else json_response(answer)


def _answer_custom(model: CustomModel, fields: tuple[Field, ...], as_legacy: bool) -> Response:
    """Return the response of a model's own code: its body unchanged, or the error that it raised."""
    response = model.answer(HandlerRequest(request_id(), fields, dict(request.headers)), client_disconnected())
    if response.error:
        kind, message = response.error
        return mms_error(response.status, kind, message)
    if as_legacy and response.status == 200:
        return text_response(wrap_body(response.body))
    return _handler_response(model.name, response)


def _handler_response(name: str, answer: HandlerAnswer) -> Response:
    """Convert a handler's response.

    :raises InvalidHandlerResponse: if its status or headers are not valid in HTTP.
    """
    for header, value in {**answer.headers, "Content-Type": answer.content_type or ""}.items():
        if not TOKEN.fullmatch(header) or not VALUE.fullmatch(value):
            raise InvalidHandlerResponse(name, f"the header {header[:80]!r}: {value[:80]!r}")
    if not VALUE.fullmatch(answer.phrase):
        raise InvalidHandlerResponse(name, f"the status {answer.status} {answer.phrase[:80]!r}")
    response = make_response(answer.body, f"{answer.status} {answer.phrase}".rstrip())
    # MMS sends no type if the handler sets none; a guess is right for JSON, the usual case, and otherwise harmless
    response.headers["Content-Type"] = answer.content_type or _guess_type(answer.body)
    response.headers.update({name: text for name, text in answer.headers.items() if name.lower() not in CONNECTION})
    return response


def _guess_type(body: bytes) -> str:
    """Return the content type of a body; for a long body by its first character, to save parsing it."""
    if len(body) > LONGEST_GUESSED:
        return JSON_TYPE if body.lstrip()[:1] in (b"{", b"[", b'"') else TEXT_TYPE
    try:
        parse_json(body, MOST_DEPTH)  # rejects NaN, which is not JSON
    except ValueError:
        return TEXT_TYPE
    return JSON_TYPE
