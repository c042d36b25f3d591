"""Responses to requests that fail before they reach the application, in the application's own format."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gunicorn.http import errors

from app.server.request_reader import BodyTooLarge, IncompleteRequest, StorageFailed

SECURITY = "Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n"


class TooSlow(errors.ParseException):  # type: ignore[misc]
    """An error for a request that takes too long to arrive."""


@dataclass(frozen=True)
class ErrorResponse:
    """An error response with HTTP status, phrase, error type and message. The connection is closed after it, because
    the start of the next request is unknown."""

    code: int
    phrase: str
    type: str
    message: str

    def encode(self) -> bytes:
        """Return the complete response."""
        facts = {"code": self.code, "type": self.type, "message": self.message}
        body = json.dumps(facts).encode() + b"\n"
        head = (
            f"HTTP/1.1 {self.code} {self.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{SECURITY}\r\n"
        )
        return head.encode() + body


BROKEN = ErrorResponse(
    500, "Internal Server Error", "InternalError", "Internal server error. The server's log has the details."
)
RESPONSES = {
    TooSlow: (
        408,
        "Request Timeout",
        "RequestTimeout",
        "The request took too long to arrive; the limit is DIMPLE_CLIENT_TIMEOUT.",
    ),
    errors.LimitRequestLine: (
        414,
        "URI Too Long",
        "URITooLong",
        "The first line of the request is too long; the limit is DIMPLE_MAX_REQUEST_LINE.",
    ),
    errors.LimitRequestHeaders: (
        431,
        "Request Header Fields Too Large",
        "HeadersTooLarge",
        "The header fields, trailers or chunk extensions are too many or too long: DIMPLE_MAX_HEADERS and "
        "DIMPLE_MAX_HEADER_BYTES have the limits.",
    ),
    errors.UnsupportedTransferCoding: (
        501,
        "Not Implemented",
        "NotImplemented",
        "This Transfer-Encoding is not supported; use chunked.",
    ),
    errors.ExpectationFailed: (417, "Expectation Failed", "ExpectationFailed", "Only Expect: 100-continue can be met."),
    errors.ForbiddenProxyRequest: (403, "Forbidden", "Forbidden", "This address may not send the PROXY protocol."),
    BodyTooLarge: (
        413,
        "Request Entity Too Large",
        "RequestEntityTooLarge",
        "The request is too long; the limit is DIMPLE_MAX_REQUEST_BYTES. Send less.",
    ),
    IncompleteRequest: (
        400,
        "Bad Request",
        "ClientDisconnected",
        "The connection was closed before the request was complete. Send the request again.",
    ),
    StorageFailed: (
        507,
        "Insufficient Storage",
        "StorageError",
        "The body cannot be stored: the disk is full, or cannot be written. Send it later.",
    ),
    errors.ParseException: (400, "Bad Request", "BadRequest", "This is not a valid HTTP request."),
}
"""Status, phrase, type and message for each error of :class:`app.server.request_reader.RequestReader`."""


def response_to(error: errors.ParseException) -> ErrorResponse:
    """Return the response to a request that failed to parse."""
    return next(ErrorResponse(*RESPONSES[kind]) for kind in type(error).__mro__ if kind in RESPONSES)
