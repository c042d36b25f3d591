"""What MXNet Model Server 0.4 did otherwise than its successors, for archives and clients of its time.

It had one route, ``/{model}/predict``, and answered ``{"prediction": …}``; 1.x has that route, too, and answers without
the wrapper whatever the archive. Dimple cannot see which of the two a client was written for, so the archive decides:
one of 0.x (``.model``, whose manifest has no ``specificationVersion``) gets 0.4's reply at 0.4's route, which is what
tutorials of its time show; every other archive, and every other route, gets the bare list of 1.x.
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
"""How files of pictures begin."""
HEAD = 400
"""Characters of base64 that are enough to see it, behind the beginning of a ``data:`` URL."""


def is_legacy(model: Model | CustomModel) -> bool:
    """Say whether a model comes from an archive of 0.x."""
    return model.legacy


def wrap_answer(answer: Any) -> str:
    """0.4's reply.

    :param answer: for the one output of the model's network. 0.4 listed all outputs, and so has a list around it.
    :returns: JSON with sorted keys, as 0.4 wrote it.
    """
    return json.dumps({"prediction": [answer]}, indent=2, sort_keys=True)


def wrap_body(body: bytes) -> str:
    """0.4's reply around what a service of the archive's own has answered: JSON, or else text."""
    try:
        return wrap_answer(parse_json(body, allow_surrogates=True))
    except ValueError:
        return wrap_answer(body.decode(errors="replace"))


def with_pictures(fields: Iterable[Field], names: Sequence[str] = ()) -> tuple[Field, ...]:
    """Return the fields of a request, decoded if they carry a picture as base64 text, which 0.4 took, too.

    0.4 refused every picture that was not called ``image/jpeg``; a PNG, or a JPEG without a type, harms nobody.

    :param names: of the fields that are looked at; all if there are none.
    """
    return tuple(
        field
        if field.is_file or (names and field.name not in names)
        else replace(field, data=_decode_picture(field.data))
        for field in fields
    )


def _decode_picture(text: bytes) -> bytes:
    """Return what the text says in base64 if that is a picture, else the text."""
    for end in (HEAD, HEAD - 1):  # no base64 ends with a single character of a group of four
        with contextlib.suppress(ValueError):
            if decode_base64(text[:end]).startswith(PICTURES):
                return decode_base64(text)
    return text
