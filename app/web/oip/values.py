"""The values of a tensor that was sent, out of JSON or of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BadInput
from app.serving.tensors import as_float32
from app.types import FloatArray
from app.web.base64_text import decode_base64
from app.web.numbers import NumberList
from app.web.oip.asked import Input
from app.web.oip.datatypes import BOOL, LENGTH, NUMBERS

BASE64 = "base64"
KINDS: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
"""What JSON may have for each kind of NumPy's types."""


def numbers(sent: Input) -> NDArray[Any]:
    """The values of a numeric tensor, in its shape and its own type. To be asked for once.

    :raises BadInput: where they are of another number or kind.
    """
    kind = NUMBERS[sent.datatype]
    if isinstance(sent.data, NumberList):
        return _from_text(sent, sent.data, kind)
    if sent.raw is None:
        made = _from_json(sent, kind)
        sent.data.clear()  # a request may wait long for its turn, and lists take many times the room
        return made
    if len(sent.raw) != sent.size * kind.itemsize:
        raise BadInput(
            f"The input {sent.name!r} has {len(sent.raw)} bytes of data; {sent.datatype} in the shape "
            f"{list(sent.shape)} takes {sent.size * kind.itemsize}. Correct the shape or the data."
        )
    if sent.datatype == BOOL and (np.frombuffer(sent.raw, np.uint8) > 1).any():
        raise BadInput(f"The input {sent.name!r} is BOOL and holds bytes other than 0 and 1. Send it as UINT8.")
    return np.frombuffer(sent.raw, kind).reshape(sent.shape)


def texts(sent: Input, encoded: bool) -> list[bytes]:
    """The values of a BYTES tensor, in their order.

    :param encoded: whether a string of JSON is base64; else it stands for its own UTF-8.
    :raises BadInput: where there are more or fewer than the shape says, or one cannot be read.
    """
    if sent.raw is not None:
        found = _parted(sent)
        _check_number(sent, len(found))
        return found
    values: Sequence[Any] | NDArray[Any] = () if isinstance(sent.data, NumberList) else _nested(sent)
    if not len(values) or not all(isinstance(one, str) for one in values):
        raise BadInput(f"The input {sent.name!r} is BYTES, and its data must be strings.")
    return [_decoded(sent, number, one) if encoded else _utf8(sent, one) for number, one in enumerate(values)]


def _from_json(sent: Input, kind: np.dtype[np.generic]) -> NDArray[Any]:
    values = _nested(sent)
    if not set(map(type, values)) <= KINDS[kind.kind]:
        raise BadInput(f"The input {sent.name!r} is {sent.datatype}, and not all its data are: {_sample(sent)}.")
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused with all that is
            return _in_range(sent, values, kind).astype(kind).reshape(sent.shape)
    except OverflowError:
        raise _beyond(sent) from None


def _in_range(sent: Input, values: NDArray[Any], kind: np.dtype[np.generic]) -> NDArray[Any]:
    """Whole numbers that their type has: NumPy itself would wrap them round."""
    if kind.kind not in "iu":
        return values.astype(np.float64)
    whole, limits = values.astype(np.int64), np.iinfo(kind.name)
    if int(whole.min()) < limits.min or int(whole.max()) > limits.max:
        raise BadInput(f"The input {sent.name!r} is {sent.datatype}, whose values are {limits.min} to {limits.max}.")
    return whole


def _from_text(sent: Input, data: NumberList, kind: np.dtype[np.generic]) -> NDArray[Any]:
    """Read a long list; its values become float32 at once, which takes the least memory."""

    def convert(values: Sequence[Any], first: int) -> FloatArray:
        piece = np.array(values, dtype=object)
        if not set(map(type, values)) <= KINDS[kind.kind]:
            raise BadInput(f"The input {sent.name!r} is {sent.datatype}, and not all its data are: {data}.")
        with np.errstate(over="ignore"):
            return as_float32(_in_range(sent, piece, kind).astype(kind), first)

    try:
        shape = data.shape()
        if len(shape) != 1:
            _check_nested(sent, shape)
        _check_number(sent, prod(shape))
        return data.read(sent.shape, convert)
    except OverflowError:
        raise _beyond(sent) from None
    except ValueError as error:
        raise BadInput(f"The data of the input {sent.name!r} cannot be read: {error}. Correct them.") from None


def _beyond(sent: Input) -> BadInput:
    return BadInput(f"The input {sent.name!r} has a value beyond all numbers of {sent.datatype}.")


def _check_nested(sent: Input, shape: tuple[int, ...]) -> None:
    if shape != sent.shape:
        raise BadInput(
            f"The data of the input {sent.name!r} are nested as {list(shape)}; its shape is {list(sent.shape)}. "
            "Send them so, or flat."
        )


def _nested(sent: Input) -> NDArray[Any]:
    """The data as an array of one axis. The protocol has them flat, or nested as the shape says."""
    data = [sent.data] if isinstance(sent.data, str) and sent.size == 1 else sent.data
    try:
        values = np.array(data, dtype=object)  # any other type would make texts as long as the longest
    except (ValueError, RecursionError):
        raise BadInput(f"The data of the input {sent.name!r} are nested unevenly: send them flat.") from None
    if values.ndim != 1:
        _check_nested(sent, values.shape)
    _check_number(sent, values.size)
    return values.reshape(-1)


def _check_number(sent: Input, found: int) -> None:
    if found != sent.size or not found:
        raise BadInput(
            f"The input {sent.name!r} has {found} values; its shape {list(sent.shape)} takes {sent.size}, at least one."
            " Correct the shape or the data."
        )


def _parted(sent: Input) -> list[bytes]:
    """Elements of bytes, each behind its length."""
    assert sent.raw is not None
    data, at = sent.raw, 0
    found: list[bytes] = []
    while at < len(data) and len(found) <= sent.size:
        start = at + LENGTH.size
        end = start + LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if end > len(data):
            raise BadInput(
                f"The input {sent.name!r} is cut: an element should end at byte {end}, and there are {len(data)}. "
                "Each is sent behind its length, four bytes, the lowest first."
            )
        found.append(bytes(data[start:end]))
        at = end
    return found


def _decoded(sent: Input, number: int, text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise BadInput(
            f"The input {sent.name!r} has at {number} the text {text[:40]!r}, which is not base64. JSON has no other"
            " way to carry a picture; binary data have."
        ) from None


def _utf8(sent: Input, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON may have half of a surrogate pair
        raise BadInput(f"The input {sent.name!r} has a text that is no Unicode: {text[:40]!r}. Send base64.") from None


def _sample(sent: Input) -> str:
    return repr(sent.data)[:60]
