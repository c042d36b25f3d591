"""Bodies that come packed (``Content-Encoding``): refused, or unpacked within the bounds of others."""

from __future__ import annotations

import io
import zlib

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import BadParameter, UnsupportedContentEncoding
from app.web.around.guard import refusing
from app.web.bodies import inflate
from app.web.context import dimple

GZIP = ("gzip", "x-gzip")
CHUNK = 2**16
OWN = "oip"
"""The Open Inference Protocol has packed bodies by its own rules, and unpacks them within the same bounds."""


def unpack_body(head_only: bool = False) -> None:
    """Unpack the present body: packed, it would be taken for a broken picture; unpacked without a bound, it could fill
    the memory.

    :param head_only: whether it has not arrived, and is only to be refused if it would be.
    :raises UnsupportedContentEncoding: if it is packed in a way that is not taken.
    :raises RequestEntityTooLarge: if it is too long, unpacked.
    :raises BadParameter: if it is not packed as its headers say.
    """
    encoding = request.environ.get("HTTP_CONTENT_ENCODING")
    if encoding is None:
        return
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or request.blueprint == OWN:
        return
    settings = dimple().settings
    if not settings.gzip_requests or encoding not in GZIP:
        with refusing():
            raise UnsupportedContentEncoding(encoding, "gzip" if settings.gzip_requests else "identity")
    if head_only:
        return
    data = _unpacked(settings.max_request_bytes)
    request.environ.pop("HTTP_CONTENT_ENCODING")
    request.environ.update({"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))})
    request.__dict__.pop("stream", None)
    request.__dict__.pop("content_length", None)


def _unpacked(most: int) -> bytes:
    """:raises RequestEntityTooLarge: where there is more than ``most``. :raises BadParameter: where it is no gzip."""
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge()
    stream = request.stream
    try:
        return inflate(iter(lambda: stream.read(CHUNK), b""), 16 + zlib.MAX_WBITS, most)
    except zlib.error as error:
        raise BadParameter("Content-Encoding", "gzip", f"that of the body, which is none ({error})") from None
    except EOFError:
        raise BadParameter(
            "Content-Encoding", "gzip", "that of one whole gzip stream; this one is cut off, or longer"
        ) from None
