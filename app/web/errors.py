"""Error responses: JSON for programs, pages for browsers, and the formats of the two other APIs."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass

from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from app.errors import DimpleError, HandlerLoadError, InternalError, InvalidHandlerResponse, ModelUnavailable, of_system
from app.web.request import services, wants_html

log = logging.getLogger(__name__)

RETRY_SECONDS = "1"
"""Value of Retry-After; a full queue has usually moved on after this time."""
MMS_TYPES = {
    400: "BadRequestException",
    403: "ForbiddenException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    413: "RequestEntityTooLargeException",
}
"""Multi Model Server's names for HTTP errors, by status."""
MMS_MESSAGES = {
    404: "Requested resource is not found, please refer to API document.",
    405: "Requested method is not allowed, please refer to API document.",
}
MMS_HEADERS = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache; no-store, must-revalidate, private",
    "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
"""Headers of every response of Multi Model Server."""
HEADINGS = {
    "EmptyFile": "No image was chosen",
    "MissingFile": "No image was chosen",
    "NotAPicture": "This file is not an image",
    "PictureTooLarge": "This image is too large",
    "ModelNotFound": "There is no such model",
    "QueueFull": "The model is busy",
    "TooLate": "The model is busy",
}
"""Headings of error pages by type of error."""
HEADINGS_BY_STATUS = {
    400: "The request could not be understood",
    401: "Log in",
    403: "This is not allowed",
    404: "Page not found",
    405: "This address cannot be opened like that",
    410: "This link has expired",
    413: "This is too large",
    429: "Too many requests",
    503: "Not available at the moment",
}
"""Headings of error pages by status."""
VISITOR_MESSAGES = dict.fromkeys(("QueueFull", "TooLate"), "Go back, and send the image again in a moment.")
OPERATORS_PART = re.compile(r",? or raise DIMPLE_\w+")
"""Advice in messages that only operators of the server can follow."""


@dataclass(frozen=True)
class ErrorBody:
    """JSON body of an error: HTTP status, stable type, and a message with the next step."""

    code: int
    type: str
    message: str


def register_error_handlers(app: Flask) -> None:
    """Register the handler of all errors that no blueprint handles."""
    app.register_error_handler(Exception, error_response)


def error_body(error: Exception) -> ErrorBody:
    """Return an error's body in Dimple's own API. Unexpected errors are logged."""
    error = _known(error)
    if isinstance(error, DimpleError):
        return ErrorBody(error.status, error.type, str(error))
    return ErrorBody(error.code or 500, type(error).__name__, _http_message(error))


def error_response(error: Exception) -> Response:
    """Return the response to an error: a page if the client prefers one, else JSON."""
    if isinstance(error, HTTPException) and error.code and error.code < 400:
        return make_response(error.get_response())  # a redirect
    body = error_body(error)
    if "X-Part" in request.headers or wants_html():
        body = _for_visitors(body)
    heading = HEADINGS.get(body.type) or HEADINGS_BY_STATUS.get(body.code, "Something went wrong")
    page = wants_html()
    content = render_template("problem.html", problem=body, heading=heading) if page else jsonify(asdict(body))
    return _add_status_headers(make_response(content, body.code), error)


def _for_visitors(body: ErrorBody) -> ErrorBody:
    """Return the error as visitors of the page see it, who can change neither settings nor requests."""
    message = VISITOR_MESSAGES.get(body.type) or OPERATORS_PART.sub("", body.message)
    if body.type == NotFound.__name__:
        message = f"There is nothing at {request.path}."
    if body.type == RequestEntityTooLarge.__name__:
        message = f"At most {services().settings.max_request_bytes / 2**20:.3g} MB can be sent. Choose a smaller file."
    return ErrorBody(body.code, body.type, message)


def mms_error_response(error: Exception) -> Response:
    """Return the response to an error in Multi Model Server's format, and with its wording if it has any."""
    error = _known(error)
    if isinstance(error, InvalidHandlerResponse | HandlerLoadError):
        log.error("%s", error)  # an error in a model's own code, which the operator has to correct
    if isinstance(error, DimpleError):
        return mms_error(error.mms_status or error.status, error.mms_type, error.mms_message or str(error))
    body = error_body(error)
    return mms_error(
        body.code, MMS_TYPES.get(body.code, DimpleError.mms_type), MMS_MESSAGES.get(body.code, body.message)
    )


def mms_error(status: int, kind: str, message: str) -> Response:
    """Return an error response in Multi Model Server's format."""
    text = json.dumps({"code": status, "type": kind, "message": message}, indent=2) + "\n"
    response = Response(text, status, MMS_HEADERS, content_type="application/json")
    if kind == ModelUnavailable.mms_type:
        response.headers["Retry-After"] = RETRY_SECONDS
    return response


def oip_error_response(error: Exception) -> Response:
    """Return the response to an error in the Open Inference Protocol's format."""
    body = error_body(error)
    return _add_status_headers(oip_error(body.code, body.message), error)


def oip_error(status: int, message: str) -> Response:
    """Return an error response in the Open Inference Protocol's format."""
    return _add_status_headers(make_response(jsonify({"error": message}), status))


def _known(error: Exception) -> DimpleError | HTTPException:
    """Return the error itself if clients may see it; else log it and return a generic error in its place."""
    error = of_system(error) or error
    if isinstance(error, DimpleError | HTTPException):
        return error
    log.error("unforeseen error in %s %s", request.method, request.path, exc_info=error)
    unforeseen = InternalError()
    if isinstance(error, MemoryError):
        unforeseen.mms_status = 507  # SageMaker then unloads other models
    return unforeseen


def _http_message(error: HTTPException) -> str:
    if isinstance(error, RequestEntityTooLarge):
        limits = services().settings
        return (
            f"The request is too long: at most {limits.max_request_bytes:,} bytes are allowed, and in a form "
            f"{limits.max_form_parts:,} parts and {limits.max_form_memory_bytes:,} bytes of text. Send less."
        )
    if isinstance(error, MethodNotAllowed):
        return f"{request.method} is not allowed for {request.path}; use {_allowed_methods(error)}."
    if isinstance(error, ClientDisconnected):
        return "The connection ended before the request's body did, or it came too slowly. Send the request again."
    if isinstance(error, NotFound):
        return f"There is nothing at {request.path}. The page is at /, the models are listed at /predict/."
    return error.description or error.name


def _allowed_methods(error: MethodNotAllowed) -> str:
    return ", ".join(sorted(error.valid_methods or ()))


def _add_status_headers(response: Response, error: Exception | None = None) -> Response:
    """Add the headers that belong to the status of a response."""
    if response.status_code == ModelUnavailable.status:
        response.headers["Retry-After"] = RETRY_SECONDS
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = _allowed_methods(error)
    return response
