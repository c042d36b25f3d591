"""Decoding of a request's fields to the dictionary that a handler gets."""

from __future__ import annotations

import json
from typing import Any


class InvalidInput(Exception):
    """An error for data that cannot be read as its declared content type."""


class Headers(dict[str, Any]):
    """A case-insensitive dictionary of request headers, since a WSGI server does not know their original case."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(self._spelt(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self._spelt(name))

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(self._spelt(name), default)

    def _spelt(self, name: Any) -> Any:
        if super().__contains__(name) or not isinstance(name, str):
            return name
        return next((known for known in self if known.lower() == name.lower()), name)


def decode(name: str, content_type: str, data: bytearray, by_type: bool) -> Any:
    """Return the value of one field.

    :param by_type: if False, the value stays bytes: for a form's plain field, or with ``decode_input_request=false``.
    :returns: the JSON value, text, or a bytearray.
    :raises InvalidInput: if the bytes do not match the content type.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        if by_type and media_type == "application/json":
            return json.loads(data)
        return data.decode() if by_type and media_type.startswith("text") else data
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The field {name!r} is not {media_type}: {error}") from None
