"""Tensors as they are sent back: in JSON, or in bytes behind it."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flask import Response, make_response, request
from numpy.typing import NDArray

from app.web.oip.asked import Asked
from app.web.oip.body import HEADER_LENGTH
from app.web.oip.datatypes import BYTES, FLOAT, LENGTH
from app.web.oip.values import BASE64

PACKET = 1400
"""Bytes that go into one packet anyhow, and are not worth compressing."""
FASTEST = 1


@dataclass(frozen=True)
class Tensor:
    """An output: float32, or bytes (NumPy's ``object``)."""

    name: str
    values: NDArray[Any]
    binary: bool = False

    @property
    def datatype(self) -> str:
        """The protocol's name of its type."""
        return BYTES if self.values.dtype == object else FLOAT


def bytes_tensor(name: str, rows: Sequence[Any], binary: bool) -> Tensor:
    """A tensor of bytes.

    :param rows: bytes, or lists of bytes that are all equally long.
    """
    return Tensor(name, np.array(rows, dtype=object), binary)


def answer(name: str, version: str, asked: Asked, tensors: Sequence[Tensor]) -> Response:
    """The answer to an inference request."""
    parts = [_part(tensor) for tensor in tensors]
    document: dict[str, Any] = {"model_name": name, "model_version": version}
    if asked.id is not None:
        document["id"] = asked.id
    document["outputs"] = [described for described, _ in parts]
    head = json.dumps(document, separators=(",", ":")).encode()
    if not any(tensor.binary for tensor in tensors):
        return _sent(head, "application/json")
    response = _sent(b"".join([head, *(data for _, data in parts)]), "application/octet-stream")
    response.headers[HEADER_LENGTH] = str(len(head))
    return response


def _part(tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """What the JSON says of a tensor, and what stands behind it."""
    described = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.values.shape)}
    if tensor.binary:
        data = _packed(tensor)
        return {**described, "parameters": {"binary_data_size": len(data)}}, data
    flat = tensor.values.reshape(-1).tolist()
    if tensor.datatype == FLOAT:
        return {**described, "data": flat}, b""
    try:
        return {**described, "data": [one.decode() for one in flat]}, b""
    except UnicodeDecodeError:
        encoded = [base64.b64encode(one).decode() for one in flat]
        return {**described, "parameters": {"content_type": BASE64}, "data": encoded}, b""


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype == FLOAT:
        return tensor.values.astype("<f4").tobytes()
    return b"".join(LENGTH.pack(len(one)) + one for one in tensor.values.reshape(-1))


def _sent(body: bytes, media_type: str) -> Response:
    encoding = request.accept_encodings.best_match(["identity", "gzip", "deflate"]) if len(body) > PACKET else None
    if encoding == "gzip":
        body = gzip.compress(body, FASTEST)
    elif encoding == "deflate":
        body = zlib.compress(body, FASTEST)
    response = make_response(body)
    response.headers["Content-Type"] = media_type
    response.headers["Vary"] = "Accept-Encoding"
    if encoding in ("gzip", "deflate"):
        response.headers["Content-Encoding"] = encoding
    return response
