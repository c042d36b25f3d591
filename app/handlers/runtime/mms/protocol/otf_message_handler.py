"""Multi Model Server's binary messages, for archives and test benches that read or write them.

Dimple's own workers are sent others (``app/handlers/protocol.py``). Numbers are 32 bits, signed, big-endian; texts and
bytes have their length before them; a list ends with -1.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from socket import socket
from typing import Any, TypeVar

from mms.context import Context

END_OF_LIST = -1
LOAD_MSG = b"L"
PREDICT_MSG = b"I"

T = TypeVar("T")


def retrieve_msg(conn: socket) -> tuple[bytes, Any]:
    """Read a command of the front end.

    :returns: ``L`` with a dictionary that says what to load, or ``I`` with a batch: a list of dictionaries with
        ``requestId``, ``headers`` and ``parameters``.
    :raises ValueError: if the command is another, or the connection ends.
    """
    command = bytes(_read(conn, 1))
    if command == LOAD_MSG:
        return command, _load_message(conn)
    if command == PREDICT_MSG:
        return command, list(_until_end(conn, _request))
    raise ValueError(f"Invalid command: {command!r}")


def create_load_model_response(code: int, message: str) -> bytearray:
    """Return the answer to the command that loads a model.

    :param code: an HTTP status.
    """
    return _int(code) + _text(message) + _int(END_OF_LIST)


def create_predict_response(
    ret: list[Any] | None, req_id_map: Mapping[int, str], message: str, code: int, context: Context | None = None
) -> bytearray:
    """Return the answer to a batch.

    :param ret: the result of each request: bytes, text or what JSON can write; None for a batch that failed.
    :param req_id_map: the ids of the requests by their index in ``ret``.
    :param message: what became of the batch, in words.
    :param code: HTTP status of the batch.
    :param context: has the status and the headers of each answer; None gives all of them ``code`` and no headers.
    """
    written = _int(code) + _text(message)
    for index, request_id in req_id_map.items():
        try:
            body = b"error" if ret is None else _body(ret[index])
        except TypeError:
            logging.warning("The model's output cannot be written as JSON", exc_info=True)
            return create_predict_response(None, req_id_map, "Unsupported model output data type.", 503)
        written += _text(request_id) + _head(index, code, context) + _int(len(body)) + body
    return written + _int(END_OF_LIST)


def encode_response_headers(resp_hdr_map: Mapping[str, str]) -> bytearray:
    """Return the headers of an answer: their number, then each name and value."""
    written = _int(len(resp_hdr_map))
    for name, value in resp_hdr_map.items():
        written += _text(name) + _text(value)
    return written


def _head(index: int, code: int, context: Context | None) -> bytearray:
    """Content type, status, phrase and headers of an answer."""
    if context is None:
        return _text("") + _int(code) + _text("") + encode_response_headers({})
    status, phrase = context.get_response_status(index)
    kind = context.get_response_content_type(index) or ""
    return (
        _text(kind) + _int(status) + _text(phrase or "") + encode_response_headers(context.get_response_headers(index))
    )


def _body(result: Any) -> bytes | bytearray:
    if isinstance(result, bytes | bytearray):
        return result
    return (result if isinstance(result, str) else json.dumps(result, indent=2)).encode()


def _int(number: int) -> bytearray:
    return bytearray(struct.pack("!i", number))


def _text(text: str) -> bytearray:
    data = text.encode()
    return _int(len(data)) + data


def _load_message(conn: socket) -> dict[str, Any]:
    message: dict[str, Any] = {"modelName": _blob(conn), "modelPath": _blob(conn), "batchSize": _number(conn)}
    message["handler"] = _blob(conn)
    gpu = _number(conn)
    if gpu >= 0:
        message["gpu"] = gpu
    return message | {"ioFileDescriptor": _blob(conn)}


def _request(conn: socket, length: int) -> dict[str, Any]:
    return {
        "requestId": _read(conn, length),
        "headers": list(_until_end(conn, lambda conn, length: {"name": _read(conn, length), "value": _blob(conn)})),
        "parameters": list(_until_end(conn, _parameter)),
    }


def _parameter(conn: socket, length: int) -> dict[str, Any]:
    name, content_type, value = _read(conn, length).decode(), _blob(conn).decode(), _blob(conn)
    decoded: Any = value
    if os.environ.get("MMS_DECODE_INPUT_REQUEST", "true") == "true":
        if content_type == "application/json":
            decoded = json.loads(value)
        elif content_type.startswith("text"):
            decoded = value.decode()
    return {"name": name, "contentType": content_type, "value": decoded}


def _until_end(conn: socket, read: Callable[[socket, int], T]) -> Iterator[T]:
    """Read the items of a list, each of which begins with the length of its first field."""
    while (length := _number(conn)) != END_OF_LIST:
        yield read(conn, length)


def _blob(conn: socket) -> bytearray:
    return _read(conn, _number(conn))


def _number(conn: socket) -> int:
    return int(struct.unpack("!i", _read(conn, 4))[0])


def _read(conn: socket, length: int) -> bytearray:
    data = bytearray()
    while len(data) < length:
        chunk = conn.recv(length - len(data))
        if not chunk:
            raise ValueError("Frontend disconnected")
        data += chunk
    return data
