"""Tensors in SageMaker's ``/invocations``: NumPy files, CSV, or JSON lists.

The formats are those of SageMaker's own inference containers: ``application/x-npy``, ``text/csv`` with one row per
line, and JSON as ``{"instances": [...]}`` or a bare list. In JSON, ``{"b64": "..."}`` is an encoded image.
"""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from flask import Response, make_response, request
from numpy.typing import NDArray

from app.errors import BadInput, TooManyFiles
from app.serving.model import Model, best
from app.serving.tensors import check_rows, compute_picture, compute_rows, row_shape, scores
from app.settings import Settings
from app.types import FloatArray
from app.web.json import parse_json
from app.web.mms.messages import json_response
from app.web.request import accepted_type, client_disconnected
from app.web.values import NumberList, decode_base64, read

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
BYTES = ("application/octet-stream", "")
JSON_STARTS = 1000
"""Number of bytes, including leading whitespace, within which JSON must begin."""
LINE = re.compile(rb"[^\s][^\r\n]*")
INSTANCES = "instances"
PICTURE = "b64"


def holds_tensor(data: bytes) -> bool:
    """Return whether the body of the current request is a tensor rather than an image.

    Images are sent with any content type, and JSON also with that of binary data.
    """
    if request.mimetype in (JSON, *BYTES):
        return data[:JSON_STARTS].removeprefix(BOM_UTF8).lstrip()[:1] in (b"[", b"{")
    return request.mimetype in (CSV, NPY)


def answer_tensor(model: Model, data: bytes, settings: Settings) -> Response:
    """Run a network on the rows of a tensor.

    :returns: a list with the most probable classes of each row; or the probabilities of all classes, in the order of
        the labels, if the client prefers CSV or NumPy's format.
    :raises BadInput: if the tensor cannot be read, or does not fit the model.
    :raises ModelUnavailable: if the request waited too long.
    """
    probable = scores(model, _compute(model, data, settings))
    accepted = accepted_type([JSON, CSV, NPY])
    if accepted == CSV:
        text = "".join(",".join(str(value) for value in row) + "\n" for row in probable)
        return make_response(text, {"Content-Type": f"{CSV}; charset=utf-8"})
    if accepted == NPY:
        file = io.BytesIO()
        np.save(file, probable)
        return make_response(file.getvalue(), {"Content-Type": NPY})
    return json_response(
        [
            [
                {"probability": item.probability, "class": item.label}
                for item in best(row, model.labels, model.postprocess.top)
            ]
            for row in probable
        ]
    )


def _compute(model: Model, data: bytes, settings: Settings) -> FloatArray:
    if request.mimetype == NPY:
        return _tensor(model, _from_npy(data), settings)
    if request.mimetype == CSV:
        return _tensor(model, _from_csv(data, model, settings), settings)
    rows = _from_json(data, settings)
    if isinstance(rows, NumberList):
        return _tensor(model, _long_numbers(rows, model, settings), settings)
    if all(isinstance(row, dict) for row in rows):
        return _pictures(model, rows, settings)
    return _tensor(model, _numbers(rows), settings)


def _tensor(model: Model, values: NDArray[Any], settings: Settings) -> FloatArray:
    """Run the network on values in the shape of its input, with or without a batch axis, or with flat rows."""
    shape = _as_input(model, values.shape, settings)
    return compute_rows(model, values.reshape(shape), client_disconnected())


def _as_input(model: Model, shape: tuple[int, ...], settings: Settings) -> tuple[int, ...]:
    """Return the shape of the tensor that is passed to the network.

    :raises BadInput: if the shape does not fit, or there are too many rows.
    """
    expected = row_shape(model)
    if shape == expected:
        shape = (1, *expected)
    elif len(shape) == 2 and shape[1] == prod(expected):
        shape = (shape[0], *expected)
    check_rows(model, shape or (0,), settings.max_files)
    return shape


def _pictures(model: Model, rows: Sequence[dict[str, Any]], settings: Settings) -> FloatArray:
    if len(rows) > settings.max_files:
        raise TooManyFiles(len(rows), settings.max_files)
    is_disconnected, results = client_disconnected(), []
    for row in rows:
        results.append(compute_picture(model, _picture(row), settings.picture_limits, is_disconnected))
    return np.concatenate(results)


def _picture(row: dict[str, Any]) -> bytes:
    try:
        return decode_base64(row[PICTURE])
    except (KeyError, TypeError, ValueError):
        excerpt = str(row)[:80]
        raise BadInput(
            f'An object of {INSTANCES} must be {{"{PICTURE}": a picture in base64}}, not {excerpt!r}.'
        ) from None


def _from_json(data: bytes, settings: Settings) -> list[Any] | NumberList:
    try:
        document = parse_json(data, settings.max_json_depth)
    except ValueError as error:
        raise BadInput(f"The body cannot be read as JSON: {str(error)[:200]}. Correct it and send it again.") from None
    rows = document.get(INSTANCES) if isinstance(document, dict) else document
    if not isinstance(rows, list | NumberList) or not rows:
        raise BadInput(f'The JSON must be {{"{INSTANCES}": [...]}} or a list, with at least one row.')
    return rows


def _long_numbers(rows: NumberList, model: Model, settings: Settings) -> FloatArray:
    try:
        shape = rows.shape()
        _as_input(model, shape, settings)
        return rows.read(shape, lambda values, _: _plain_numbers(values))
    except (ValueError, OverflowError) as error:
        raise _uneven(f" ({error})") from None


def _numbers(rows: list[Any]) -> FloatArray:
    try:
        return _plain_numbers(rows)
    except (ValueError, RecursionError, OverflowError):  # lists of different lengths, or infinite numbers
        raise _uneven() from None


def _plain_numbers(rows: Sequence[Any]) -> FloatArray:
    values = np.array(rows, dtype=object)  # any other dtype would store each text at the length of the longest
    if not set(map(type, values.flat)) <= {int, float}:
        raise ValueError("a value is not a number")
    return _as_float32(values)


def _uneven(reason: str = "") -> BadInput:
    return BadInput(
        f"The rows of the JSON are not all numbers, or not all of one shape{reason}. Send each as the model takes it."
    )


def _from_csv(data: bytes, model: Model, settings: Settings) -> FloatArray:
    """Read one row per line. Rows and their values are counted before any number is parsed."""
    columns = prod(row_shape(model))
    view = memoryview(data)
    rows: list[tuple[memoryview, int]] = []
    start = len(BOM_UTF8) if data.startswith(BOM_UTF8) else 0
    for line in LINE.finditer(data, start):
        if len(rows) == settings.max_files:
            raise TooManyFiles(len(rows) + 1 + data.count(b"\n", line.end()), settings.max_files)
        rows.append((view[line.start() : line.end()], data.count(b",", *line.span()) + 1))
    counts = {count for _, count in rows}
    try:
        if len(counts) > 1:
            raise ValueError(f"its rows have different numbers of values: {', '.join(map(str, sorted(counts)[:5]))}")
        if not counts or max(counts) > columns:
            check_rows(model, (len(rows), *counts), settings.max_files)
        array = np.empty((len(rows), *counts), np.float32)
        for (text, _), row in zip(rows, array, strict=True):
            read(text, row, _floats, lambda values, _: _as_float32(values))
        return array
    except ValueError as error:
        raise BadInput(
            f"The body cannot be read as CSV: {str(error)[:120]}. Send a line of numbers, with commas between, for"
            " each row."
        ) from None


def _floats(text: bytes) -> NDArray[np.float64]:
    return np.array([float(value) for value in text.decode().split(",")])


def _as_float32(values: Any) -> FloatArray:
    """Convert decimal numbers to float32. Too large numbers become infinite and are rejected later."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float64).astype(np.float32)


def _from_npy(data: bytes) -> NDArray[Any]:
    """Read an array in the format of ``numpy.save``. NumPy's own reader trusts the size in the header and allocates
    it."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(file)  # type: ignore[no-untyped-call]
        if kind.kind not in "biuf" or kind.itemsize > 8:
            raise ValueError(f"its values are of the type {kind}")
        left = memoryview(data)[file.tell() :]
        if len(left) != prod(shape) * kind.itemsize or len(shape) > 16:
            raise ValueError(f"its {len(left)} bytes are not an array of {kind} in the shape {shape}")
    except ValueError as error:
        raise BadInput(f"The body cannot be read as .npy: {str(error)[:160]}. Send what numpy.save writes.") from None
    return np.frombuffer(left, kind).reshape(shape, order="F" if fortran else "C")
