"""The body of a request, as it came and inflated."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge


def whole_body() -> bytes:
    """All of the present request's body.

    :raises RequestEntityTooLarge: where it is longer than the settings allow.
    :raises ClientDisconnected: where the client ends before it does.
    """
    length, most = request.content_length, request.max_content_length
    if length is None or "stream" in vars(request):  # somebody has begun to read
        data = request.get_data(cache=False)
        if length is None and len(data) == most:
            raise RequestEntityTooLarge()  # Werkzeug ends a body of unknown length at the limit, silently
        return data
    if most is not None and length > most:
        raise RequestEntityTooLarge()
    try:
        data = bytes(request.environ["wsgi.input"].read(length))  # without Werkzeug's streams: 30 microseconds
    except OSError:
        raise ClientDisconnected() from None
    if len(data) < length:
        raise ClientDisconnected()
    return data


def inflate(chunks: Iterable[bytes], wbits: int, most: int) -> bytes:
    """Decompress a stream of zlib's or gzip's. Never more than ``most`` bytes of output exist.

    :param chunks: the stream in pieces, which are read no further than it is allowed to inflate.
    :param wbits: the format, as :func:`zlib.decompressobj` takes it.
    :raises RequestEntityTooLarge: if there is more output.
    :raises zlib.error: if it is not such a stream.
    :raises EOFError: if it is cut off, or something follows it.
    """
    inflater, pieces, left = zlib.decompressobj(wbits), [], most + 1
    for chunk in chunks:
        pieces.append(inflater.decompress(chunk, left))
        left -= len(pieces[-1])
        if not left:
            raise RequestEntityTooLarge()
        if inflater.unused_data:
            break
    if not inflater.eof or inflater.unused_data:
        raise EOFError()
    return b"".join(pieces)
