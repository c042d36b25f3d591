"""Tensors of the protocol, decoded from requests and encoded in responses, as JSON or bytes."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from flask import Response, make_response, request
from numpy.typing import NDArray

from app.errors import BadInput
from app.serving.tensors import as_float32
from app.types import FloatArray
from app.web.oip.requests import BOOL, BYTES, FLOAT, HEADER_LENGTH, LENGTH, NUMBERS, InferenceRequest, Input
from app.web.values import NumberList, decode_base64

BASE64 = "base64"
KINDS: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
"""Python types of JSON values for each kind of NumPy dtype."""


def numbers(sent: Input) -> NDArray[Any]:
    """Return the values of a numeric tensor, in its shape and its own type. May be called once: it frees the input's
    data.

    :raises BadInput: if the number or the type of the values is wrong.
    """
    kind = NUMBERS[sent.datatype]
    if isinstance(sent.data, NumberList):
        return _from_text(sent, sent.data, kind)
    if sent.raw is None:
        made = _from_json(sent, kind)
        sent.data.clear()  # a request may wait long in the queue, and lists take many times the memory
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
    """Return the values of a BYTES tensor in their order.

    :param encoded: if True, strings in JSON are Base64; else they are encoded as UTF-8.
    :raises BadInput: if the number of values does not match the shape, or a value cannot be read.
    """
    if sent.raw is not None:
        elements = _split_bytes(sent)
        _check_number(sent, len(elements))
        return elements
    values: Sequence[Any] | NDArray[Any] = () if isinstance(sent.data, NumberList) else _nested(sent)
    if not len(values) or not all(isinstance(value, str) for value in values):
        raise BadInput(f"The input {sent.name!r} is BYTES, and its data must be strings.")
    return [
        _decode_element(sent, number, value) if encoded else _utf8(sent, value) for number, value in enumerate(values)
    ]


def _from_json(sent: Input, kind: np.dtype[np.generic]) -> NDArray[Any]:
    values = _nested(sent)
    if not set(map(type, values)) <= KINDS[kind.kind]:
        raise BadInput(f"The input {sent.name!r} is {sent.datatype}, and not all its data are: {repr(sent.data)[:60]}.")
    try:
        with np.errstate(over="ignore"):  # infinite values are rejected later
            return _in_range(sent, values, kind).astype(kind).reshape(sent.shape)
    except OverflowError:
        raise _beyond(sent) from None


def _in_range(sent: Input, values: NDArray[Any], kind: np.dtype[np.generic]) -> NDArray[Any]:
    """Return whole numbers that fit their type; NumPy itself would wrap them around."""
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
    """Return the data as an array with one axis. In the protocol, data is flat or nested as in the shape."""
    data = [sent.data] if isinstance(sent.data, str) and sent.size == 1 else sent.data
    try:
        values = np.array(data, dtype=object)  # any other dtype would store each text at the length of the longest
    except (ValueError, RecursionError):
        raise BadInput(f"The data of the input {sent.name!r} are nested unevenly: send them flat.") from None
    if values.ndim != 1:
        _check_nested(sent, values.shape)
    _check_number(sent, values.size)
    return values.reshape(-1)


def _check_number(sent: Input, count: int) -> None:
    if count != sent.size or not count:
        raise BadInput(
            f"The input {sent.name!r} has {count} values; its shape {list(sent.shape)} takes {sent.size}, at least one."
            " Correct the shape or the data."
        )


def _split_bytes(sent: Input) -> list[bytes]:
    """Return the elements of binary BYTES data, each preceded by its length."""
    assert sent.raw is not None
    data, at = sent.raw, 0
    elements: list[bytes] = []
    while at < len(data) and len(elements) <= sent.size:
        start = at + LENGTH.size
        end = start + LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if end > len(data):
            raise BadInput(
                f"The input {sent.name!r} is cut: an element should end at byte {end}, and there are {len(data)}. "
                "Each is sent behind its length, four bytes, the lowest first."
            )
        elements.append(bytes(data[start:end]))
        at = end
    return elements


def _decode_element(sent: Input, number: int, text: str) -> bytes:
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
    except UnicodeEncodeError:  # JSON may contain half of a surrogate pair
        raise BadInput(f"The input {sent.name!r} has a text that is not Unicode: {text[:40]!r}. Send base64.") from None


PACKET = 1400
"""Size in bytes that fits into one packet anyway, so that compression saves nothing."""
FASTEST = 1


@dataclass(frozen=True)
class Tensor:
    """An output tensor: float32, or bytes (NumPy's ``object``)."""

    name: str
    values: NDArray[Any]
    binary: bool = False

    @property
    def datatype(self) -> str:
        """Return the protocol's name of the tensor's type."""
        return BYTES if self.values.dtype == object else FLOAT


def bytes_tensor(name: str, rows: Sequence[Any], binary: bool) -> Tensor:
    """Return a tensor of bytes.

    :param rows: bytes, or lists of bytes of equal length.
    """
    return Tensor(name, np.array(rows, dtype=object), binary)


def answer(name: str, version: str, request_document: InferenceRequest, tensors: Sequence[Tensor]) -> Response:
    parts = [_part(tensor) for tensor in tensors]
    document: dict[str, Any] = {"model_name": name, "model_version": version}
    if request_document.id is not None:
        document["id"] = request_document.id
    document["outputs"] = [described for described, _ in parts]
    head = json.dumps(document, separators=(",", ":")).encode()
    if not any(tensor.binary for tensor in tensors):
        return _json_values(head, "application/json")
    response = _json_values(b"".join([head, *(data for _, data in parts)]), "application/octet-stream")
    response.headers[HEADER_LENGTH] = str(len(head))
    return response


def _part(tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """Return the JSON description of a tensor, and its binary data."""
    described = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.values.shape)}
    if tensor.binary:
        data = _pack(tensor)
        return {**described, "parameters": {"binary_data_size": len(data)}}, data
    flat = tensor.values.reshape(-1).tolist()
    if tensor.datatype == FLOAT:
        return {**described, "data": flat}, b""
    try:
        return {**described, "data": [item.decode() for item in flat]}, b""
    except UnicodeDecodeError:
        encoded = [base64.b64encode(item).decode() for item in flat]
        return {**described, "parameters": {"content_type": BASE64}, "data": encoded}, b""


def _pack(tensor: Tensor) -> bytes:
    if tensor.datatype == FLOAT:
        return tensor.values.astype("<f4").tobytes()
    return b"".join(LENGTH.pack(len(item)) + item for item in tensor.values.reshape(-1))


def _json_values(body: bytes, media_type: str) -> Response:
    encoding = request.accept_encodings.best_match(["identity", "gzip", "deflate"]) if len(body) > PACKET else None
    if encoding == "gzip":
        body = gzip.compress(body, FASTEST)
    elif encoding == "deflate":
        body = zlib.compress(body, FASTEST)
    response = make_response(body, {"Content-Type": media_type, "Vary": "Accept-Encoding"})
    if encoding in ("gzip", "deflate"):
        response.headers["Content-Encoding"] = encoding
    return response
