"""How Multi Model Server's API answers: its JSON, its headers, and its words for what goes wrong."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Response
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from app.errors import (
    BadAnswer,
    BadInput,
    CleaningTimeout,
    DimpleError,
    DownloadFailed,
    FilesExhausted,
    HandlerLoadError,
    ModelConflict,
    ModelFormatError,
    ModelNotFound,
    ModelNotInStore,
    ModelUnavailable,
    RegistryBusy,
    RoleTooSmall,
    StorageError,
    TokenWanted,
    TooManyRequests,
    UrlRefused,
    of_system,
)
from app.web.problems import RETRY_SECONDS, problem_of

log = logging.getLogger(__name__)

UNFORESEEN = "InternalServerException"
UNAVAILABLE = "ServiceUnavailableException"
KINDS: tuple[tuple[type[DimpleError | HTTPException | MemoryError], int | None, str], ...] = (
    (MemoryError, 507, UNFORESEEN),  # SageMaker then has other models unregistered
    (ModelNotFound, 404, "ModelNotFoundException"),
    (ModelNotInStore, 404, "ModelNotFoundException"),
    (ModelConflict, 409, "ConflictStatusException"),
    (ModelUnavailable, 503, UNAVAILABLE),
    (RegistryBusy, 503, UNAVAILABLE),
    (FilesExhausted, 503, UNAVAILABLE),
    (StorageError, 507, "InsufficientStorageException"),
    (CleaningTimeout, 408, "RequestTimeoutException"),
    (DownloadFailed, 400, "DownloadModelException"),
    (BadAnswer, 502, UNFORESEEN),
    (HandlerLoadError, None, UNFORESEEN),
    (ModelFormatError, 400, "InvalidModelException"),
    (TokenWanted, 401, "UnauthorizedException"),
    (RoleTooSmall, 403, "ForbiddenException"),
    (UrlRefused, 403, "ForbiddenException"),
    (TooManyRequests, 429, "TooManyRequestsException"),
    (Forbidden, 403, "ForbiddenException"),
    (RequestEntityTooLarge, 413, "RequestEntityTooLargeException"),
    (MethodNotAllowed, 405, "MethodNotAllowedException"),
    (BadInput, None, "BadRequestException"),
    (BadRequest, 400, "BadRequestException"),
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


def json_response(document: Any, status: int = 200, newline: bool = False) -> Response:
    """MMS's own JSON: two spaces deep; what a model says ends without a newline, what the server says with one."""
    return text_response(json.dumps(document, indent=2) + ("\n" if newline else ""), status)


def text_response(text: str, status: int = 200) -> Response:
    """JSON that is written already."""
    return Response(text, status, content_type="application/json")


def explain(error: Exception) -> Response:
    """An error in MMS's words where it has them, and in ours where it has none."""
    error = of_system(error) or error
    problem = problem_of(error)
    code, kind = next(((code, kind) for of, code, kind in KINDS if isinstance(error, of)), (None, UNFORESEEN))
    status = code or problem.code
    message = MESSAGES.get(type(error), problem.message)
    if isinstance(error, ModelNotFound):
        message = f"Model not found: {error.name}"
    if isinstance(error, BadAnswer):
        log.error("%s", error)
    if isinstance(error, HandlerLoadError):
        status, message = error.code, "Failed to start workers"
        log.error("%s", error)
    return error_response(status, kind, message)


def error_response(status: int, kind: str, message: str) -> Response:
    """An error as MMS writes it; where it passes by itself, with the time after which it may have."""
    response = json_response({"code": status, "type": kind, "message": message}, status, newline=True)
    if kind == UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_SECONDS
    return response


def mark(response: Response) -> Response:
    """The headers that MMS sends with everything, but for the request's id, which every answer of ours has."""
    response.headers.update(UNCACHED)
    return response
