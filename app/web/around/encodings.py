"""Bodies that come packed (``Content-Encoding``): refused, or unpacked within the bounds of others."""

from __future__ import annotations

import io
import zlib

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import BadParameter, EncodingRefused
from app.web.around.guard import refusing
from app.web.context import dimple

GZIP = ("gzip", "x-gzip")
CHUNK = 2**16
OWN = "oip"
"""The Open Inference Protocol has packed bodies by its own rules, and unpacks them within the same bounds."""


def unpack_body(head_only: bool = False) -> None:
    """Unpack the present body: packed, it would be taken for a broken picture; unpacked without a bound, it could fill
    the memory.

    :param head_only: whether it has not arrived, and is only to be refused if it would be.
    :raises EncodingRefused: if it is packed in a way that is not taken.
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
            raise EncodingRefused(encoding, "gzip" if settings.gzip_requests else "identity")
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
    found, unpacker = bytearray(), zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    stream = request.stream
    try:
        while not unpacker.eof and (chunk := stream.read(CHUNK)):
            found += unpacker.decompress(chunk, most + 1 - len(found))
            if len(found) > most or unpacker.unconsumed_tail:
                raise RequestEntityTooLarge()
    except zlib.error as error:
        raise BadParameter("Content-Encoding", "gzip", f"that of the body, which is none ({error})") from None
    if not unpacker.eof:
        raise BadParameter("Content-Encoding", "gzip", "that of a whole body; this one is cut off")
    return bytes(found)
