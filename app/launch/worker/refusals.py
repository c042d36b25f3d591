"""What gunicorn refuses before the application sees it, in the words and the form that the application has."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gunicorn.http import errors

SECURITY = "Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n"


@dataclass(frozen=True)
class Refusal:
    """An answer: HTTP status, its phrase, a kind and a sentence."""

    code: int
    phrase: str
    type: str
    message: str

    def answer(self) -> bytes:
        """The whole answer; the connection is closed after it, since nobody knows where the next request begins."""
        facts = {"code": self.code, "type": self.type, "message": self.message}
        body = json.dumps(facts).encode() + b"\n"
        head = (
            f"HTTP/1.1 {self.code} {self.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{SECURITY}\r\n"
        )
        return head.encode() + body


LINE = Refusal(
    414,
    "URI Too Long",
    "URITooLong",
    "The first line of the request is too long: DIMPLE_MAX_REQUEST_LINE has the limit.",
)
HEADERS = Refusal(
    431,
    "Request Header Fields Too Large",
    "HeadersTooLarge",
    "The header fields are too many or too long: DIMPLE_MAX_HEADERS and DIMPLE_MAX_HEADER_BYTES have the limits.",
)
CODING = Refusal(501, "Not Implemented", "NotImplemented", "This Transfer-Encoding is not known; use chunked.")
EXPECTATION = Refusal(417, "Expectation Failed", "ExpectationFailed", "Only Expect: 100-continue can be met.")
MALFORMED = Refusal(400, "Bad Request", "BadRequest", "This is not an HTTP request that can be read.")
KINDS: tuple[tuple[type[Exception], Refusal], ...] = (
    (errors.LimitRequestLine, LINE),
    (errors.LimitRequestHeaders, HEADERS),
    (errors.UnsupportedTransferCoding, CODING),
    (errors.ExpectationFailed, EXPECTATION),
    (errors.ParseException, MALFORMED),
)


def refusal_of(error: Exception) -> Refusal | None:
    """How a request is refused whose parsing ended in an error; None where the client is not to blame."""
    return next((refusal for kind, refusal in KINDS if isinstance(error, kind)), None)
