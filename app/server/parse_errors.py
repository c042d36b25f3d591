"""Responses to requests that fail before they reach the application, in the application's own format."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gunicorn.http import errors

from app.server.request_reader import BodyTooLarge, IncompleteRequest

SECURITY = "Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n"


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


TOO_SLOW = ErrorResponse(
    408, "Request Timeout", "RequestTimeout", "The request took too long to arrive; the limit is DIMPLE_CLIENT_TIMEOUT."
)
BROKEN = ErrorResponse(
    500, "Internal Server Error", "InternalError", "Internal server error. The server's log has the details."
)
NO_SPACE = ErrorResponse(
    507,
    "Insufficient Storage",
    "StorageError",
    "The body cannot be stored: the disk is full, or cannot be written. Send it later.",
)
LINE = ErrorResponse(
    414,
    "URI Too Long",
    "URITooLong",
    "The first line of the request is too long; the limit is DIMPLE_MAX_REQUEST_LINE.",
)
HEADERS = ErrorResponse(
    431,
    "Request Header Fields Too Large",
    "HeadersTooLarge",
    "The header fields, trailers or chunk extensions are too many or too long: DIMPLE_MAX_HEADERS and "
    "DIMPLE_MAX_HEADER_BYTES have the limits.",
)
CODING = ErrorResponse(
    501, "Not Implemented", "NotImplemented", "This Transfer-Encoding is not supported; use chunked."
)
EXPECTATION = ErrorResponse(417, "Expectation Failed", "ExpectationFailed", "Only Expect: 100-continue can be met.")
BODY = ErrorResponse(
    413,
    "Request Entity Too Large",
    "RequestEntityTooLarge",
    "The request is too long; the limit is DIMPLE_MAX_REQUEST_BYTES. Send less.",
)
PROXY = ErrorResponse(403, "Forbidden", "Forbidden", "This address may not send the PROXY protocol.")
INCOMPLETE = ErrorResponse(
    400,
    "Bad Request",
    "ClientDisconnected",
    "The connection was closed before the request was complete. Send the request again.",
)
MALFORMED = ErrorResponse(400, "Bad Request", "BadRequest", "This is not a valid HTTP request.")
RESPONSES: tuple[tuple[type[Exception], ErrorResponse], ...] = (
    (errors.LimitRequestLine, LINE),
    (errors.LimitRequestHeaders, HEADERS),
    (errors.UnsupportedTransferCoding, CODING),
    (errors.ExpectationFailed, EXPECTATION),
    (errors.ForbiddenProxyRequest, PROXY),
    (BodyTooLarge, BODY),
    (IncompleteRequest, INCOMPLETE),
    (errors.ParseException, MALFORMED),
    (OSError, NO_SPACE),
)
"""Responses to errors of :class:`app.server.request_reader.RequestReader`; the first matching class counts."""


def response_to(error: Exception) -> ErrorResponse:
    """Return the response to a request that failed to parse."""
    return next((response for kind, response in RESPONSES if isinstance(error, kind)), BROKEN)
