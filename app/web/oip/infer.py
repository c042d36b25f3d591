"""Inference by models with their own code, which take bytes, and by networks, which take tensors."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from flask import request
from numpy.typing import NDArray

from app.errors import BadInput, EmptyFile, TooManyFiles
from app.serving.custom_model import CustomModel, Field, HandlerAnswer, HandlerRequest
from app.serving.model import Model
from app.serving.tensors import best_columns, check_rows, compute_picture, compute_rows, scores
from app.settings import Settings
from app.types import FloatArray
from app.web.oip.codec import BASE64, Tensor, bytes_tensor, numbers, texts
from app.web.oip.requests import BYTES, InferenceRequest, Input, Output
from app.web.request import client_disconnected

BODY = "body"
CUSTOM_OUTPUTS = 1
OK = range(200, 300)


def infer_custom(model: CustomModel, inference: InferenceRequest, settings: Settings) -> list[Tensor] | HandlerAnswer:
    """Call a model's own code once for every row; the inputs are the fields of its request.

    :returns: one tensor of the outputs (N); if the code rejects a row, only the response to that row.
    :raises BadInput: if the inputs are not BYTES.
    :raises ModelUnavailable: if the request waited too long.
    """
    binary = _binary_output(model, inference)
    columns = [_column(model, sent, settings) for sent in inference.inputs]
    if len({len(column) for column in columns}) > 1:
        raise BadInput("The inputs have different numbers of rows; each row of all of them is one request.")
    answers, is_disconnected = [], client_disconnected()
    for fields in zip(*columns, strict=True):
        response = model.answer(HandlerRequest(str(uuid.uuid4()), fields, dict(request.headers)), is_disconnected)
        if response.error or response.status not in OK:
            return response
        answers.append(response.body)
    return [bytes_tensor(BODY, answers, binary)]


def _binary_output(model: CustomModel, inference: InferenceRequest) -> bool:
    """Return whether the client requests the only output as binary data."""
    for output in inference.outputs or ():
        if output.name != BODY or output.classes:
            raise BadInput(
                f"The model {model.name} answers by its own code, which has one output, {BODY!r}, and no classes; "
                f"{output.name[:80]!r} cannot be asked for."
            )
    return inference.outputs[0].binary if inference.outputs else inference.binary


def _column(model: CustomModel, sent: Input, settings: Settings) -> list[Field]:
    """Return an input as fields, one per row, with the name of the input."""
    if sent.datatype != BYTES:
        raise BadInput(
            f"The model {model.name} brings its own code, which takes bytes and not tensors: send what it takes as an "
            f"element of BYTES, not {sent.datatype}; POST /predictions/{model.name} takes the same as a body."
        )
    if sent.size > settings.max_files:
        raise TooManyFiles(sent.size, settings.max_files)
    kind = sent.parameters.get("content_type")
    encoded = kind == BASE64
    content_type = kind if isinstance(kind, str) and not encoded else "application/octet-stream"
    return [Field(sent.name, content_type, data, is_file=True) for data in texts(sent, encoded)]


PICTURE = "image"
LABELS, SCORES = "labels", "scores"
INPUTS, OUTPUTS = 1, 3
"""Maximum number of inputs and outputs in a request. The input is a tensor or images; the outputs are the network's own
output, labels and scores."""


@dataclass(frozen=True)
class InferenceResult:
    """Result of a request: the network's output (N, columns), the probabilities (N, classes), and the indices of the
    best classes (N, k), in descending order of probability."""

    raw: FloatArray
    scores: FloatArray
    best: NDArray[np.int64]


def raw_name(model: Model) -> str:
    """Return the name of the network's own output: the name in its signature, unless Dimple uses that name itself."""
    name = model.output.name
    return f"raw_{name}" if name in (LABELS, SCORES) else name


def infer_network(model: Model, inference: InferenceRequest, settings: Settings) -> list[Tensor]:
    """Run a network on the input of a request.

    :raises BadInput: if the request does not fit the model.
    :raises ModelUnavailable: if the request waited too long.
    """
    sent, raw = _only_input(model, inference), raw_name(model)
    default = (LABELS, SCORES) if sent.datatype == BYTES else (raw,)
    outputs = inference.outputs or tuple(Output(name, inference.binary) for name in default)
    _check_outputs(model, outputs, (raw, LABELS, SCORES))
    rows = _pictures(model, sent, settings) if sent.datatype == BYTES else _tensor(model, sent, settings)
    probable = scores(model, rows)
    top = inference.top or model.postprocess.top or probable.shape[1]
    computed = InferenceResult(rows, probable, best_columns(probable, top))
    return [_output(model, output, computed) for output in outputs]


def _only_input(model: Model, inference: InferenceRequest) -> Input:
    """Return the only input of a request: a tensor or images."""
    hint = f"The model {model.name} takes one input: its tensor {model.input.name!r}, or encoded pictures, {PICTURE!r}"
    if len(inference.inputs) > 1:
        raise BadInput(f"{hint} of BYTES. The request has {len(inference.inputs)}: {_names(inference.inputs)}.")
    sent = inference.inputs[0]
    if sent.name not in ((PICTURE, model.input.name) if sent.datatype == BYTES else (model.input.name,)):
        raise BadInput(f"{hint} of BYTES. It has no input {sent.name[:80]!r} of {sent.datatype}.")
    return sent


def _check_outputs(model: Model, outputs: tuple[Output, ...], known: tuple[str, ...]) -> None:
    for output in outputs:
        if output.name not in known:
            raise BadInput(f"The model {model.name} has no output {output.name[:80]!r}. It has {', '.join(known)}.")


def _tensor(model: Model, sent: Input, settings: Settings) -> FloatArray:
    check_rows(model, sent.shape, settings.max_files)
    return compute_rows(model, numbers(sent), client_disconnected())


def _pictures(model: Model, sent: Input, settings: Settings) -> FloatArray:
    if sent.shape[1:] not in ((), (1,)):
        raise BadInput(
            f"The input {sent.name!r} has the shape {list(sent.shape)}; pictures are sent in the shape [N], an element "
            "each."
        )
    if sent.shape[0] > settings.max_files:
        raise TooManyFiles(sent.shape[0], settings.max_files)
    pictures = texts(sent, encoded=True)
    is_disconnected, rows = client_disconnected(), []
    for number, data in enumerate(pictures):
        with _numbering_errors(number, len(pictures)):
            if not data:
                raise EmptyFile()
            rows.append(compute_picture(model, data, settings.picture_limits, is_disconnected))
    return np.concatenate(rows)


@contextmanager
def _numbering_errors(number: int, count: int) -> Iterator[None]:
    """Add the number of the image to an error, if there are several images."""
    try:
        yield
    except BadInput as error:
        if count > 1:
            error.args = (f"Picture {number} of 0-{count - 1}: {error}",)
        raise


def _output(model: Model, output: Output, computed: InferenceResult) -> Tensor:
    if output.classes:
        rows = computed.scores if output.name in (LABELS, SCORES) else computed.raw
        return _classes(model, output, rows.reshape(len(rows), -1))
    if output.name == LABELS:
        return bytes_tensor(LABELS, [[model.labels[i].encode() for i in row] for row in computed.best], output.binary)
    if output.name == SCORES:
        return Tensor(SCORES, np.take_along_axis(computed.scores, computed.best, axis=1), output.binary)
    return Tensor(output.name, computed.raw, output.binary)


def _classes(model: Model, output: Output, rows: FloatArray) -> Tensor:
    """Return an output in Triton's classification extension: ``value:index:label``.

    A network with one number for two classes has no label for it.
    """
    labelled = rows.shape[1] == len(model.labels)
    texts: list[list[Any]] = [
        [f"{row[i]!s}:{i}{f':{model.labels[i]}' if labelled else ''}".encode() for i in best]
        for row, best in zip(rows, best_columns(rows, output.classes), strict=True)
    ]
    return bytes_tensor(output.name, texts, output.binary)


def _names(inputs: tuple[Input, ...]) -> str:
    return ", ".join(item.name[:80] for item in inputs[:8])
