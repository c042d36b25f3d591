"""What the protocol asks of a network that our engines compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BadInput, EmptyFile, TooManyFiles
from app.serving.model import Model
from app.serving.tensors import best_columns, check_rows, compute_picture, compute_rows, scores
from app.settings import Settings
from app.types import FloatArray
from app.web.clients import client_disconnected
from app.web.oip.answers import Tensor, bytes_tensor
from app.web.oip.asked import Asked, Input, Output
from app.web.oip.datatypes import BYTES
from app.web.oip.values import numbers, texts

PICTURE = "image"
LABELS, SCORES = "labels", "scores"
INPUTS, OUTPUTS = 1, 3
"""Most of them in a request: one tensor, or pictures; what the network gives, labels and scores."""


@dataclass(frozen=True)
class Computed:
    """What came of a request: the network's numbers (N, columns), the probabilities (N, classes), and the numbers of
    the best classes (N, k), falling."""

    raw: FloatArray
    scores: FloatArray
    best: NDArray[np.int64]


def raw_name(model: Model) -> str:
    """What the network's own output is called: as in its signature, unless that name is one of ours."""
    name = model.output.name
    return f"raw_{name}" if name in (LABELS, SCORES) else name


def infer(model: Model, asked: Asked, settings: Settings) -> list[Tensor]:
    """Answer a request.

    :raises BadInput: where the request does not fit the model.
    :raises ModelUnavailable: where it waited too long.
    """
    sent, raw = _only_input(model, asked), raw_name(model)
    default = (LABELS, SCORES) if sent.datatype == BYTES else (raw,)
    wanted = asked.outputs or tuple(Output(name, asked.binary) for name in default)
    _check_outputs(model, wanted, (raw, LABELS, SCORES))
    rows = _pictures(model, sent, settings) if sent.datatype == BYTES else _tensor(model, sent, settings)
    probable = scores(model, rows)
    top = asked.top or model.postprocess.top or probable.shape[1]
    computed = Computed(rows, probable, best_columns(probable, top))
    return [_output(model, one, computed) for one in wanted]


def _only_input(model: Model, asked: Asked) -> Input:
    """The tensor, or the pictures, that a request carries."""
    told = f"The model {model.name} takes one input: its tensor {model.input.name!r}, or encoded pictures, {PICTURE!r}"
    if len(asked.inputs) > 1:
        raise BadInput(f"{told} of BYTES. The request has {len(asked.inputs)}: {_names(asked.inputs)}.")
    sent = asked.inputs[0]
    if sent.name not in ((PICTURE, model.input.name) if sent.datatype == BYTES else (model.input.name,)):
        raise BadInput(f"{told} of BYTES. It has no input {sent.name[:80]!r} of {sent.datatype}.")
    return sent


def _check_outputs(model: Model, wanted: tuple[Output, ...], known: tuple[str, ...]) -> None:
    for one in wanted:
        if one.name not in known:
            raise BadInput(f"The model {model.name} has no output {one.name[:80]!r}. It has {', '.join(known)}.")


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
        with _numbered(number, len(pictures)):
            if not data:
                raise EmptyFile()
            rows.append(compute_picture(model, data, settings.picture_limits, is_disconnected))
    return np.concatenate(rows)


@contextmanager
def _numbered(number: int, count: int) -> Iterator[None]:
    """Say which of several pictures is bad."""
    try:
        yield
    except BadInput as error:
        if count > 1:
            error.args = (f"Picture {number} of 0-{count - 1}: {error}",)
        raise


def _output(model: Model, wanted: Output, computed: Computed) -> Tensor:
    if wanted.classes:
        rows = computed.scores if wanted.name in (LABELS, SCORES) else computed.raw
        return _classes(model, wanted, rows.reshape(len(rows), -1))
    if wanted.name == LABELS:
        return bytes_tensor(LABELS, [[model.labels[i].encode() for i in row] for row in computed.best], wanted.binary)
    if wanted.name == SCORES:
        return Tensor(SCORES, np.take_along_axis(computed.scores, computed.best, axis=1), wanted.binary)
    return Tensor(wanted.name, computed.raw, wanted.binary)


def _classes(model: Model, wanted: Output, rows: FloatArray) -> Tensor:
    """Triton's classification extension: ``value:index:label``. The network's one number for two classes has no
    label."""
    labelled = rows.shape[1] == len(model.labels)
    told: list[list[Any]] = [
        [f"{row[i]!s}:{i}{f':{model.labels[i]}' if labelled else ''}".encode() for i in best]
        for row, best in zip(rows, best_columns(rows, wanted.classes), strict=True)
    ]
    return bytes_tensor(wanted.name, told, wanted.binary)


def _names(inputs: tuple[Input, ...]) -> str:
    return ", ".join(one.name[:80] for one in inputs[:8])
