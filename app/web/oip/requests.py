"""Inference requests of the protocol: the body, split into JSON and binary data, and the tensors in it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from flask import request

from app.errors import BadInput, BadParameter
from app.serving.tensors import check_count
from app.web.json import parse_json
from app.web.request import inflate, services, whole_body

BYTES = "BYTES"
BOOL = "BOOL"
FLOAT = "FP32"
NUMBERS: dict[str, np.dtype[np.generic]] = {
    BOOL: np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    FLOAT: np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
NAMES = (*NUMBERS, BYTES)
LENGTH = struct.Struct("<I")
"""Length prefix of each BYTES element."""


HEADER_LENGTH = "Inference-Header-Content-Length"
COMPRESSED = ("gzip", "deflate")
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""Window bits with which zlib detects gzip or zlib; deflate in HTTP is the zlib format (RFC 9110, 8.4.1.2)."""


@dataclass(frozen=True)
class Body:
    """Body of a request. ``document`` is None if the whole body is the data of the only input (Triton's raw binary
    request)."""

    document: dict[str, Any] | None
    binary: memoryview


def read_body(optional: bool = False) -> Body:
    """Read the body of the current request.

    :param optional: if True, an empty body counts as an empty object.
    :raises BadInput: if the body contradicts its headers, or its JSON is invalid.
    :raises RequestEntityTooLarge: if the body is too long, compressed or decompressed.
    """
    data = _inflate(whole_body())
    if optional and not data:
        return Body({}, memoryview(data))
    length = _header_length(len(data))
    if length == 0:
        return Body(None, memoryview(data))
    return Body(read_json(data[:length]), memoryview(data)[length:])


def read_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object, strictly as in RFC 8259, without NaN.

    :raises BadInput: if the data is not a JSON object.
    """
    try:
        document = parse_json(data, services().settings.max_json_depth)
    except ValueError as error:
        raise BadInput(
            f"The body cannot be read as JSON: {str(error)[:200]}. Send the protocol's inference request; to send a "
            f"picture as it is, set the header {HEADER_LENGTH}: 0."
        ) from None
    if not isinstance(document, dict):
        raise BadInput(f"The body must be a JSON object, not {str(document)[:80]!r}.")
    return document


def _inflate(data: bytes) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return data
    if encoding not in COMPRESSED:
        raise BadParameter("Content-Encoding", encoding, "gzip, deflate or left out")
    limit = services().settings.max_request_bytes
    try:
        return inflate([data], GZIP_OR_ZLIB, limit)
    except zlib.error as error:
        raise BadInput(f"The body cannot be inflated as {encoding}: {error}. Compress it again.") from None
    except EOFError:
        raise BadInput(f"The body is not one whole {encoding} stream. Send it again.") from None


def _header_length(size: int) -> int:
    """Return the length of the JSON in bytes."""
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return size or 1  # not 0, which means no JSON: an empty body is missing its JSON
    if not text.isdecimal() or len(text) > 18 or int(text) > size:
        raise BadParameter(HEADER_LENGTH, text, f"the length of the JSON, at most that of the body, {size}")
    return int(text)


MOST_AXES = 16
LARGEST = 2**31 - 1
ABSENT = object()


@dataclass(frozen=True)
class Input:
    """An input tensor: its values as in the JSON (``data``), or as bytes (``raw``)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    raw: memoryview | None = None

    @property
    def size(self) -> int:
        """Return the number of values in the shape."""
        return prod(self.shape)


@dataclass(frozen=True)
class Output:
    """A requested output, as binary data or JSON. ``classes`` is the number of classes for the classification
    extension; 0 for the tensor itself."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class InferenceRequest:
    """A complete request.

    :param outputs: requested outputs; None leaves the choice to the model.
    :param binary: whether the outputs are binary data if ``outputs`` is None.
    :param top: number of classes in the response; None for the model's own number.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...] | None = None
    binary: bool = False
    id: str | None = None
    top: int | None = None


def parse_request(body: Body, raw_input: str, most_inputs: int, most_outputs: int) -> InferenceRequest:
    """Parse a request.

    :param raw_input: name of the input for a body without JSON.
    :raises BadInput: if the request violates the protocol.
    """
    document = body.document
    if document is None:
        element = memoryview(LENGTH.pack(len(body.binary)) + body.binary)
        return InferenceRequest((Input(raw_input, BYTES, (1,), raw=element),))
    parameters = _parameters(document, "parameters")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadParameter("id", identity, "a string")
    binary = _flag(parameters, "binary_data_output", "parameters", False)
    top = check_count("top", parameters["top"]) if "top" in parameters else None
    inputs = _inputs(document, body.binary, most_inputs)
    return InferenceRequest(inputs, _outputs(document, binary, most_outputs), binary, identity, top)


def _inputs(document: dict[str, Any], binary: memoryview, most: int) -> tuple[Input, ...]:
    inputs, used = [], 0
    for number, item in enumerate(_list(document, "inputs", most)):
        where = f"inputs[{number}]"
        one = _input(item, where)
        size = one.parameters.get("binary_data_size")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(binary) - used:
                left = f"the length of its data; {len(binary) - used} bytes are there, after the JSON"
                raise BadParameter(f"{where}.parameters.binary_data_size", size, f"{left} ({HEADER_LENGTH})")
            one = Input(one.name, one.datatype, one.shape, one.parameters, None, binary[used : used + size])
            used += size
        elif one.data is ABSENT:
            raise BadInput(
                f"{where}, {one.name!r}, has neither data nor parameters.binary_data_size: send one of them."
            )
        inputs.append(one)
    if used != len(binary):
        raise BadInput(f"The body has {len(binary)} bytes after its JSON; the inputs tell of {used}. Make them agree.")
    return tuple(inputs)


def _input(item: Any, where: str) -> Input:
    name = _name(item, where)
    datatype, shape = item.get("datatype"), item.get("shape")
    if datatype not in NAMES:
        raise BadParameter(f"{where}.datatype", datatype, f"one of {', '.join(NAMES)}")
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or not 1 <= len(shape) <= MOST_AXES or max(shape) > LARGEST:
        raise BadParameter(f"{where}.shape", shape, "a list of whole numbers, the first the number of rows")
    parameters, data = _parameters(item, f"{where}.parameters"), item.get("data", ABSENT)
    if data is not ABSENT and "binary_data_size" in parameters:
        raise BadInput(f"{where}, {name!r}, has both data and parameters.binary_data_size: leave one of them out.")
    return Input(name, datatype, tuple(shape), parameters, data)


def _outputs(document: dict[str, Any], binary: bool, most: int) -> tuple[Output, ...] | None:
    if document.get("outputs") in (None, []):
        return None
    outputs: list[Output] = []
    for number, item in enumerate(_list(document, "outputs", most)):
        where = f"outputs[{number}]"
        name, parameters = _name(item, where), _parameters(item, f"{where}.parameters")
        if name in [other.name for other in outputs]:
            raise BadParameter(f"{where}.name", name, "asked for once")
        classes = parameters.get("classification", 0)
        if "classification" in parameters and classes != 0:  # Triton's client sends none or a positive one
            classes = check_count(f"{where}.parameters.classification", classes)
        outputs.append(Output(name, _flag(parameters, "binary_data", where, binary), classes))
    return tuple(outputs)


def _list(document: dict[str, Any], key: str, most: int) -> Sequence[Any]:
    value = document.get(key)
    if not isinstance(value, list) or not value:
        raise BadParameter(key, value, "a list of at least one tensor")
    if len(value) > most:
        limit = f"one {key.removesuffix('s')}" if most == 1 else f"at most {most:,}"
        raise BadInput(f"The request has {len(value):,} {key}; the model takes {limit}. Leave out the others.")
    return value


def _name(item: Any, where: str) -> str:
    if not isinstance(item, dict):
        raise BadParameter(where, item, "an object")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise BadParameter(f"{where}.name", name, "the name of a tensor")
    return name


def _parameters(item: dict[str, Any], where: str) -> dict[str, Any]:
    value = item.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(where, value, "an object")
    return value


def _flag(parameters: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadParameter(f"{where}.{key}", value, "true or false")
    return value
