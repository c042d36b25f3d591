"""Base64 as clients send it."""

from __future__ import annotations

import base64

PIECE = 2**16
LONGEST_PREFIX = 200
_REPLACED = bytes.maketrans(b"-_ ", b"+/+")
_DROPPED = b"\r\n\t"


def decode_base64(text: str) -> bytes:
    """Decode base64: of the usual alphabet or that for URLs, in lines or not, padded or not, or in a ``data:`` URL.

    A space counts as the plus sign that it was before a form's decoding.

    :raises ValueError: if it is none.
    """
    start = 0
    if text[:5].lower() == "data:":
        comma = text.find(",", 0, LONGEST_PREFIX)
        if not text[:comma].lower().endswith(";base64"):
            raise ValueError("the data: URL is not one of base64")
        start = comma + 1
    text = text.rstrip("= \r\n\t")
    found, rest = bytearray(), b""
    for at in range(start, len(text), PIECE):
        rest += text[at : at + PIECE].encode("ascii").translate(_REPLACED, _DROPPED)
        whole = len(rest) & ~3
        found += base64.b64decode(rest[:whole], validate=True)
        rest = rest[whole:]
    found += base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True)
    return bytes(found)
