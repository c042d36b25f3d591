"""What the protocol asks of a model that brings its own code: bytes go to it, and its answers come back as bytes."""

from __future__ import annotations

import uuid

from flask import request

from app.errors import BadInput, TooManyFiles
from app.serving.custom_model import CustomModel, Field, HandlerAnswer, HandlerRequest
from app.settings import Settings
from app.web.clients import client_disconnected
from app.web.oip.answers import Tensor, bytes_tensor
from app.web.oip.asked import Asked, Input
from app.web.oip.datatypes import BYTES
from app.web.oip.values import BASE64, texts

BODY = "body"
OUTPUTS = 1
OK = range(200, 300)


def infer(model: CustomModel, asked: Asked, settings: Settings) -> list[Tensor] | HandlerAnswer:
    """Ask a model's own code once for every row: the inputs are the fields of the request that it gets.

    :returns: one tensor of its answers (N); of a row that it refused, its answer, and nothing else.
    :raises BadInput: where the request is not of bytes.
    :raises ModelUnavailable: where it waited too long.
    """
    binary = _binary_output(model, asked)
    columns = [_column(model, sent, settings) for sent in asked.inputs]
    if len({len(column) for column in columns}) > 1:
        raise BadInput("The inputs have different numbers of rows; each row of all of them is one request.")
    answers, is_disconnected = [], client_disconnected()
    for fields in zip(*columns, strict=True):
        said = model.answer(HandlerRequest(str(uuid.uuid4()), fields, dict(request.headers)), is_disconnected)
        if said.error or said.status not in OK:
            return said
        answers.append(said.body)
    return [bytes_tensor(BODY, answers, binary)]


def _binary_output(model: CustomModel, asked: Asked) -> bool:
    """Whether its one output is wanted as bytes."""
    for one in asked.outputs or ():
        if one.name != BODY or one.classes:
            raise BadInput(
                f"The model {model.name} answers by its own code, which has one output, {BODY!r}, and no classes; "
                f"{one.name[:80]!r} cannot be asked for."
            )
    return asked.outputs[0].binary if asked.outputs else asked.binary


def _column(model: CustomModel, sent: Input, settings: Settings) -> list[Field]:
    """An input as fields, one a row, named as it is."""
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
