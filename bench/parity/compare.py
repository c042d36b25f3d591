"""The differences between two answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bench.parity.answer import Answer

TOLERANCE = 1e-4
"""How far two figures of a prediction may be apart."""
ABSENT = "(absent)"
MOST_CHARACTERS = 300
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Difference:
    """One thing that the two servers answer differently.

    :param check: the id of the check.
    :param aspect: ``status``, ``reason``, ``header NAME``, ``body``, ``body.PATH`` (of JSON), ``body order`` (of keys)
        or ``body layout`` (the same JSON, written in other bytes).
    """

    check: str
    aspect: str
    mms: str
    dimple: str


def differences(
    check: str, mms: Answer, dimple: Answer, masked: Sequence[str] = (), unordered: Sequence[str] = ()
) -> list[Difference]:
    """Return everything in which two answers differ, except for what differs from run to run anyway."""
    found = [("status", str(mms.status), str(dimple.status)), ("reason", _reason(mms), _reason(dimple))]
    found += [(f"header {name}", a, b) for name, a, b in _headers(mms, dimple)]
    found += list(_bodies(mms, dimple, masked, unordered))
    return [Difference(check, aspect, _cut(a), _cut(b)) for aspect, a, b in found if a != b]


def _headers(mms: Answer, dimple: Answer) -> Iterator[tuple[str, str, str]]:
    for name in sorted({*mms.headers, *dimple.headers}):
        yield name, _header(name, mms), _header(name, dimple)


def _reason(answer: Answer) -> str:
    """Return the reason phrase in one letter case, which is ignored (RFC 9112, section 4: the phrase is, too)."""
    return answer.reason.lower() if answer.status else answer.reason


def _header(name: str, answer: Answer) -> str:
    """Return the value of a header; if the value means nothing to another server, whether it is right."""
    value = answer.headers.get(name)
    if value is None:
        return ABSENT
    if name == "content-length" and not answer.body and value != "0":
        return "of a body that HEAD leaves out"
    if name == "content-length":
        return "right" if value == str(len(answer.body)) else f"wrong: {value} for {len(answer.body)} bytes"
    if name == "x-request-id":
        return "a uuid4" if UUID4.fullmatch(value) else value
    return value if name != "date" else "a date"


def _bodies(
    mms: Answer, dimple: Answer, masked: Sequence[str], unordered: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    try:
        documents = mms.document(), dimple.document()
    except ValueError:
        yield "body", _text(mms.body), _text(dimple.body)
        return
    before, after = (_settled(document, (), masked, unordered) for document in documents)
    found = list(json_differences(before, after))
    yield from found
    if found:
        return
    if _key_order(before) != _key_order(after):
        yield "body order", _key_order(before), _key_order(after)
    elif documents[0] == documents[1] and mms.body != dimple.body:
        yield "body layout", _text(mms.body), _text(dimple.body)


def _settled(value: Any, path: tuple[str, ...], masked: Sequence[str], unordered: Sequence[str]) -> Any:
    """Return a document with its volatile values replaced by their kinds, and its unordered lists sorted."""
    here = ".".join(path)
    if any(fnmatchcase(here, pattern) for pattern in masked):
        return f"({type(value).__name__})"
    if isinstance(value, dict):
        return {key: _settled(item, (*path, key), masked, unordered) for key, item in value.items()}
    if isinstance(value, list):
        items = [_settled(item, (*path, str(index)), masked, unordered) for index, item in enumerate(value)]
        return sorted(items, key=repr) if here in unordered else items
    return value


def json_differences(mms: Any, dimple: Any, path: str = "body") -> Iterator[tuple[str, str, str]]:
    """Walk two JSON documents; numbers that are not integers may differ by :data:`TOLERANCE`."""
    if isinstance(mms, dict) and isinstance(dimple, dict):
        yield from _of_objects(mms, dimple, path)
    elif isinstance(mms, list) and isinstance(dimple, list):
        if len(mms) != len(dimple):
            yield f"{path} length", str(len(mms)), str(len(dimple))
        for index, (one, other) in enumerate(zip(mms, dimple, strict=False)):
            yield from json_differences(one, other, f"{path}.{index}")
    elif not _same(mms, dimple):
        yield path, repr(mms), repr(dimple)


def _of_objects(mms: Mapping[str, Any], dimple: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for key in [*mms, *(key for key in dimple if key not in mms)]:
        if key not in mms or key not in dimple:
            one, other = (repr(side[key]) if key in side else ABSENT for side in (mms, dimple))
            yield f"{path}.{key}", one, other
        else:
            yield from json_differences(mms[key], dimple[key], f"{path}.{key}")


def _same(mms: Any, dimple: Any) -> bool:
    if type(mms) is not type(dimple):
        return False  # in Python True == 1 and 1 == 1.0, in JSON they are not the same
    if isinstance(mms, float):
        return mms == dimple or (math.isnan(mms) and math.isnan(dimple)) or abs(mms - dimple) <= TOLERANCE
    return bool(mms == dimple)


def _key_order(value: Any) -> str:
    """Return the keys of a document in the order in which they are written."""
    if isinstance(value, dict):
        return "{" + ", ".join(key + _key_order(item) for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_key_order(item) for item in value) + "]"
    return ""


def _text(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
