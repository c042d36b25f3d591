"""Differences of MXNet Model Server 0.4 from its successors, for archives and clients of its time.

Its only route was ``/{model}/predict``, and it answered ``{"prediction": …}``; 1.x has that route, too, but answers
without the wrapper for every archive. Dimple cannot tell the version for which a client was written, so the archive
decides. An archive of 0.x (``.model``, without ``specificationVersion`` in its manifest) gets 0.4's response at 0.4's
route, as tutorials of its time show it. Every other archive or route gets the bare list of 1.x.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from app.serving.custom_model import CustomModel, Field
from app.serving.model import Model
from app.utils.json import parse_json
from app.web.values import decode_base64

PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""First bytes of image files."""
HEAD = 400
"""Characters of Base64 that suffice to recognize an image after the beginning of a ``data:`` URL."""


def is_legacy(model: Model | CustomModel) -> bool:
    """Return whether a model comes from an archive of 0.x."""
    return model.legacy


def wrap_answer(answer: Any) -> str:
    """Return the response body of 0.4.

    :param answer: result for the only output of the model's network. 0.4 listed all outputs, so it is wrapped in a
        list.
    :returns: JSON with sorted keys, as in 0.4.
    """
    return json.dumps({"prediction": [answer]}, indent=2, sort_keys=True)


def wrap_body(body: bytes) -> str:
    """Return the response body of 0.4 for the output of an archive's own service: JSON, or else text."""
    try:
        return wrap_answer(parse_json(body, allow_surrogates=True))
    except ValueError:
        return wrap_answer(body.decode(errors="replace"))


def with_pictures(fields: Iterable[Field], names: Sequence[str] = ()) -> tuple[Field, ...]:
    """Return the fields of a request, with images in Base64 text decoded, because 0.4 accepted them, too.

    0.4 rejected every image without the type ``image/jpeg``; accepting a PNG, or a JPEG without a type, is harmless.

    :param names: names of the fields to decode; all fields if empty.
    """
    return tuple(
        field
        if field.is_file or (names and field.name not in names)
        else replace(field, data=_decode_picture(field.data))
        for field in fields
    )


def _decode_picture(text: bytes) -> bytes:
    """Return the image that the text has in Base64; the text itself if it has none."""
    for end in (HEAD, HEAD - 1):  # no Base64 text ends with a single character of a group of four
        with contextlib.suppress(ValueError):
            if decode_base64(text[:end]).startswith(PICTURES):
                return decode_base64(text)
    return text
