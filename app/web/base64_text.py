"""Base64 as clients send it."""

from __future__ import annotations

import base64

PIECE = 2**16
LONGEST_PREFIX = 200
_REPLACED = bytes.maketrans(b"-_ ", b"+/+")
_DROPPED = b"\r\n\t"


def decode_base64(text: str | bytes) -> bytes:
    """Decode base64: of the usual alphabet or that for URLs, in lines or not, padded or not, or in a ``data:`` URL.

    A space counts as the plus sign that it was before a form's decoding.

    :raises ValueError: if it is none.
    """
    head = _ascii(text[:LONGEST_PREFIX]).lower()
    start, end = 0, len(text)
    if head.startswith(b"data:"):
        start = head.find(b",") + 1
        if not head[: start - 1].endswith(b";base64"):
            raise ValueError("the data: URL is not one of base64")
    while end > start and not (tail := _ascii(text[max(start, end - PIECE) : end]).rstrip(b"= \r\n\t")):
        end = max(start, end - PIECE)
    if end > start:
        end = max(start, end - PIECE) + len(tail)
    found, rest = bytearray(), b""
    for at in range(start, end, PIECE):
        rest += _ascii(text[at : min(at + PIECE, end)]).translate(_REPLACED, _DROPPED)
        whole = len(rest) & ~3
        found += base64.b64decode(rest[:whole], validate=True)
        rest = rest[whole:]
    found += base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True)
    return bytes(found)


def _ascii(text: str | bytes) -> bytes:
    return text.encode("ascii") if isinstance(text, str) else text
