"""Processing of one batch: decode the requests, call the handler, encode its results or errors."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from mms.context import RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.service import PREDICTION_METRIC, PredictionException, Service, checked, emit_metrics

from dimple_child.channel import Message
from dimple_child.decoding import Headers, InvalidInput, decode

INTERNAL, INVALID_INPUT = "InternalServerException", "InvalidInput"


class Failed(Exception):
    """An error for the whole batch."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Item:
    """A request of a batch and its answer: the metadata and body of the answer."""

    request_id: str
    headers: Headers
    data: dict[str, Any]
    metadata: dict[str, Any]
    body: bytes | bytearray = b""


def answer(service: Service, message: Message, decoding: bool) -> Message:
    """Answer a batch.

    :param decoding: whether to decode JSON and text.
    """
    try:
        return _answer(service, message, decoding)
    except MemoryError:
        logging.exception("The handler ran out of memory")
    count = len(message.header["requests"])
    document = [_error(507, INTERNAL, "Out of resources")] * count
    return Message({"answers": document, "out_of_memory": True}, [b""] * count)


def _answer(service: Service, message: Message, decoding: bool) -> Message:
    items = _items(message, decoding)
    readable = [item for item in items if not item.metadata]
    try:
        if readable:
            _call(service, readable)
    except Failed as failed:
        for item in readable:
            item.metadata, item.body = _error(failed.status, INTERNAL, str(failed)), b""
    document = [item.metadata for item in items]
    return Message({"answers": document, "out_of_memory": False}, [item.body for item in items])


def _items(message: Message, decoding: bool) -> list[Item]:
    blobs = iter(message.blobs)
    items = []
    for request in message.header["requests"]:
        item = Item(request["id"], Headers({}), {}, {})
        headers: dict[str, Any] = {}
        for name, content_type, is_file in request["fields"]:
            data = bytearray(next(blobs))
            headers[name] = {"content-type": content_type}
            try:
                item.data[name] = decode(name, content_type, data, is_file and decoding)
            except InvalidInput as error:
                item.metadata = _error(400, INVALID_INPUT, str(error))
        item.headers = Headers(headers | request["headers"])
        items.append(item)
    return items


def _call(service: Service, items: list[Item]) -> None:
    """Call the handler and set the answers.

    :raises Failed: if the handler raises, or its result cannot be sent.
    """
    context = service.context
    context.request_ids = {index: item.request_id for index, item in enumerate(items)}
    context.request_processor = [RequestProcessor(item.headers) for item in items]
    context.metrics = metrics = MetricsStore(context.request_ids, context.model_name)
    started = time.perf_counter()
    try:
        results = _run(service, [item.data for item in items])
        metrics.add_time(PREDICTION_METRIC, round(1000 * (time.perf_counter() - started), 2))
        for item, result, processor in zip(items, results, context.request_processor, strict=True):
            item.metadata, item.body = _metadata(processor), _encode(result)
    finally:
        emit_metrics(metrics.store)


def _run(service: Service, data: list[dict[str, Any]]) -> list[Any]:
    try:
        results = service.handle(data)
    except PredictionException as error:
        logging.exception("The handler refused the request")
        raise Failed(_status(error.error_code, 500), str(error.message)) from None
    except MemoryError:
        raise
    except Exception:
        logging.exception("The handler failed")
        raise Failed(503, "Prediction failed") from None
    try:
        return checked(results, len(data))
    except PredictionException as error:
        raise Failed(error.error_code, error.message) from None


def _encode(result: Any) -> bytes | bytearray:
    if isinstance(result, bytes | bytearray):
        return result
    try:
        text = result if isinstance(result, str) else json.dumps(result, indent=2)
        if not isinstance(result, str) and _has_nan(text):
            logging.warning("The handler returned NaN or an infinity, which is no JSON; it is sent as Python writes it")
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        logging.exception("The handler returned what cannot be written as JSON")
        raise Failed(503, "Unsupported model output data type.") from None


def _has_nan(text: str) -> bool:
    """Return whether Python has written a number that JSON lacks."""
    if "NaN" not in text and "Infinity" not in text:
        return False
    constants: list[str] = []
    json.loads(text, parse_constant=constants.append)
    return bool(constants)


def _metadata(processor: RequestProcessor) -> dict[str, Any]:
    headers = {_line(name): _line(value) for name, value in processor.get_response_headers().items()}
    types = [headers.pop(name) for name in list(headers) if name.lower() == "content-type"]
    return {
        "status": _status(processor.get_response_status_code(), 200),
        "phrase": _line(processor.get_response_status_phrase() or ""),
        "headers": headers,
        "content_type": (types[-1] or None) if types else None,
    }


def _error(status: int, kind: str, message: str) -> dict[str, Any]:
    return {"status": status, "phrase": "", "headers": {}, "content_type": None, "error": [kind, message]}


def _status(code: Any, otherwise: int) -> int:
    """Return a status code that is valid in HTTP; the handler's may be anything."""
    if isinstance(code, int) and 200 <= code <= 599:
        return int(code)
    logging.warning("The handler set the status %r; %d is sent", code, otherwise)
    return otherwise


def _line(value: object) -> str:
    """Return text that is safe in a header, as one line."""
    return " ".join(str(value).split())
