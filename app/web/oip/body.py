"""A request's body: inflated, and parted into its JSON and the binary data behind it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from flask import request

from app.errors import BadInput, BadParameter
from app.web.bodies import inflate, whole_body
from app.web.context import dimple
from app.web.json_text import parse_json

HEADER_LENGTH = "Inference-Header-Content-Length"
COMPRESSED = ("gzip", "deflate")
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""Has zlib tell the two apart by themselves; in HTTP, deflate is zlib's format (RFC 9110, 8.4.1.2)."""


@dataclass(frozen=True)
class Body:
    """What came. ``document`` is None where all of it is the one input's data (Triton's raw binary request)."""

    document: dict[str, Any] | None
    binary: memoryview


def read_body(optional: bool = False) -> Body:
    """Read the body of the present request.

    :param optional: whether there may be none, which counts as an empty object.
    :raises BadInput: where it is not what its headers say, or its JSON is none.
    :raises RequestEntityTooLarge: where it is too long, as it came or inflated.
    """
    data = _inflated(whole_body())
    if optional and not data:
        return Body({}, memoryview(data))
    length = _header_length(len(data))
    if length == 0:
        return Body(None, memoryview(data))
    return Body(read_json(data[:length]), memoryview(data)[length:])


def read_json(data: bytes) -> dict[str, Any]:
    """Read an object of JSON, as RFC 8259 has it: without NaN.

    :raises BadInput: where it is something else.
    """
    try:
        document = parse_json(data, dimple().settings.max_json_depth)
    except ValueError as error:
        raise BadInput(
            f"The body cannot be read as JSON: {str(error)[:200]}. Send the protocol's inference request; to send a "
            f"picture as it is, set the header {HEADER_LENGTH}: 0."
        ) from None
    if not isinstance(document, dict):
        raise BadInput(f"The body must be a JSON object, not {str(document)[:80]!r}.")
    return document


def _inflated(data: bytes) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return data
    if encoding not in COMPRESSED:
        raise BadParameter("Content-Encoding", encoding, "gzip, deflate or left out")
    limit = dimple().settings.max_request_bytes
    try:
        return inflate([data], GZIP_OR_ZLIB, limit)
    except zlib.error as error:
        raise BadInput(f"The body cannot be inflated as {encoding}: {error}. Compress it again.") from None
    except EOFError:
        raise BadInput(f"The body is not one whole {encoding} stream. Send it again.") from None


def _header_length(size: int) -> int:
    """Where the JSON ends."""
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return size or 1  # of an empty body, JSON is missing
    if not text.isdecimal() or len(text) > 18 or int(text) > size:
        raise BadParameter(HEADER_LENGTH, text, f"the length of the JSON, at most that of the body, {size}")
    return int(text)
