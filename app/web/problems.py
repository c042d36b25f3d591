"""The one place where an error becomes a response: JSON for programs, a page for browsers."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from app.errors import (
    BadAnswer,
    BadInput,
    CleaningTimeout,
    DimpleError,
    DownloadFailed,
    EncodingRefused,
    FilesExhausted,
    ModelConflict,
    ModelNotFound,
    ModelNotInStore,
    ModelUnavailable,
    NotAPicture,
    PictureTooLarge,
    RegistryBusy,
    RoleTooSmall,
    StorageError,
    TokenWanted,
    TooManyFiles,
    TooManyFrames,
    TooManyRequests,
    UrlRefused,
    of_system,
)
from app.web.accept import wants_html
from app.web.context import dimple

log = logging.getLogger(__name__)

STATUS: tuple[tuple[type[DimpleError], int], ...] = (
    (PictureTooLarge, 413),
    (TooManyFiles, 413),
    (TooManyFrames, 413),
    (EncodingRefused, 415),
    (NotAPicture, 415),
    (BadInput, 400),
    (ModelNotFound, 404),
    (ModelUnavailable, 503),
    (CleaningTimeout, 408),
    (TokenWanted, 401),
    (RoleTooSmall, 403),
    (UrlRefused, 403),
    (TooManyRequests, 429),
    (DownloadFailed, 400),
    (BadAnswer, 502),
    (ModelNotInStore, 404),
    (ModelConflict, 409),
    (RegistryBusy, 503),
    (FilesExhausted, 503),
    (StorageError, 507),
    (DimpleError, 500),
)
"""The first class that fits an error gives its status."""

RETRY_CODE = 503
RETRY_SECONDS = "1"
"""A line of requests that was full a moment ago has moved on after this."""


@dataclass(frozen=True)
class Problem:
    """An error as it is shown: HTTP status, kind, and a sentence with the next step."""

    code: int
    type: str
    message: str


def problem_of(error: Exception) -> Problem:
    """Describe an error; one that nobody foresaw is logged with its trace and shown without."""
    error = of_system(error) or error
    if isinstance(error, DimpleError):
        code = next(code for kind, code in STATUS if isinstance(error, kind))
        return Problem(code, type(error).__name__, str(error))
    if isinstance(error, HTTPException):
        return Problem(error.code or 500, type(error).__name__, _http_message(error))
    log.error("unforeseen error in %s %s", request.method, request.path, exc_info=error)
    return Problem(500, "InternalError", "Something went wrong on the server; its log says what.")


def _http_message(error: HTTPException) -> str:
    if isinstance(error, RequestEntityTooLarge):
        limits = dimple().settings
        return (
            f"The request is too long: at most {limits.max_request_bytes:,} bytes are allowed, and in a form "
            f"{limits.max_form_parts:,} parts and {limits.max_form_memory_bytes:,} bytes of text. Send less."
        )
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.method} is not allowed for {request.path}; use {allowed}."
    if isinstance(error, ClientDisconnected):
        return "The connection ended before the request's body did, or it came too slowly. Send the request again."
    if isinstance(error, NotFound):
        return f"There is nothing at {request.path}. The page is at /, the models are listed at /predict/."
    return error.description or error.name


def register_problems(app: Flask) -> None:
    """Answer every error of the application in one way."""
    app.register_error_handler(Exception, _respond)


def _respond(error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.code and error.code < 400:
        return make_response(error.get_response())  # a redirect, not a problem
    if isinstance(error, TokenWanted) and wants_html():
        from app.web.pages.login import login_page  # which tells problems, too

        return login_page(error)
    problem = problem_of(error)
    body = render_template("problem.html", problem=problem) if wants_html() else jsonify(asdict(problem))
    response = make_response(body, problem.code)
    if problem.code == RETRY_CODE:
        response.headers["Retry-After"] = RETRY_SECONDS
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response
