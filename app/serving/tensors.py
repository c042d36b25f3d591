"""Access to a network without the surrounding steps: an input tensor or a picture in, raw outputs out.

All tensor protocols use this module. Pictures go through :mod:`app.serving.pipeline` one after another, so that the
answer for one depends neither on the protocol nor on the other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backend.batching import IsDisconnected, never_disconnected
from app.errors import BadInput, BadParameter, TooManyFiles
from app.serving.model import Model, probabilities
from app.serving.pipeline import open_picture, prepare
from app.settings import PictureLimits
from app.types import FloatArray
from app.vision.preprocess import input_size

ROWS = 4
EXACT_WHOLE = 2**24
"""Largest number up to which float32 represents every whole number."""


def row_shape(model: Model) -> tuple[int, ...]:
    """Return the shape of one row of the network's input, without open sizes: (C, H, W), (H, W, C), or (H, W)."""
    height, width = input_size(model.preprocess, model.input.shape)
    if len(model.input.shape) == 3:
        return (height, width)
    channels = 1 if model.preprocess.color == "grey" else 3
    return (channels, height, width) if model.preprocess.layout == "NCHW" else (height, width, channels)


def check_rows(model: Model, shape: Sequence[int], max_rows: int) -> None:
    """Raise an error if a tensor's shape does not fit the network, before its values are converted.

    :raises BadInput: if its rows have another shape than the network's input, or it has no rows.
    :raises TooManyFiles: if it has more than ``max_rows`` rows; a row counts as a picture.
    """
    target = row_shape(model)
    if tuple(shape[1:]) != target or not shape[0]:
        raise BadInput(
            f"The tensor has the shape {list(shape)}; the model {model.name} takes {[-1, *target]}, with at least one "
            f"row, as its input {model.input.name!r}. Reshape it, or send a picture."
        )
    if shape[0] > max_rows:
        raise TooManyFiles(shape[0], max_rows)


def as_float32(values: NDArray[Any], before: int = 0) -> FloatArray:
    """Return the values as float32, the networks' input type.

    :param values: of any numeric type, or booleans, which become 0 and 1.
    :param before: number of values on the first axis that were converted before, for the error message.
    :raises BadInput: if a value is not a finite number, or float32 cannot represent it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(np.float32, copy=False)
    if values.dtype.kind in "iu":
        is_exact = (values <= EXACT_WHOLE) & (values >= -EXACT_WHOLE) if values.dtype.itemsize > 2 else None
    else:
        is_exact = np.isfinite(values)
        if values.dtype != np.float32:
            is_exact &= converted == values
    if is_exact is not None and not is_exact.all():
        index = tuple(int(number) for number in np.unravel_index(int(np.argmin(is_exact)), is_exact.shape))
        where = [index[0] + before, *index[1:]] if index else []
        raise BadInput(
            f"The tensor holds {values[index]!s} at {where}, which is not a finite float32 number (in which networks "
            "compute). Round the values to FP32, or scale them, before they are sent."
        )
    return converted


def compute_rows(
    model: Model, values: NDArray[Any], is_disconnected: IsDisconnected = never_disconnected
) -> FloatArray:
    """Compute a tensor a few rows at a time, because many rows take a network much memory.

    :param values: (N, …), accepted by :func:`check_rows`, of any numeric type.
    :returns: (N, columns), as :func:`compute`.
    :raises BadInput: as :func:`as_float32` and :func:`compute`.
    :raises ModelUnavailable: as :func:`compute`.
    """
    starts = range(0, len(values), ROWS)
    return np.concatenate([compute(model, as_float32(values[at : at + ROWS], at), is_disconnected) for at in starts])


def compute(
    model: Model, tensor: FloatArray, is_disconnected: IsDisconnected = never_disconnected, waited: float = 0.0
) -> FloatArray:
    """Compute the network's raw output in its turn.

    :param tensor: (N, …), accepted by :func:`check_rows`.
    :param waited: seconds that the request has waited before.
    :returns: (N, columns): the network's logits or probabilities.
    :raises BadInput: if the network's output is not finite, which a tensor's values can cause.
    :raises ModelUnavailable: if it waited too long; see :class:`app.backend.batching.BatchQueue`.
    """
    raw = model.submit(tensor, is_disconnected, waited).result
    if not np.isfinite(raw).all():
        raise BadInput(
            f"The model {model.name} answers this tensor with values that are no numbers. Scale it as the model's "
            f"pictures are scaled: GET /predict/{model.name} tells how."
        )
    return raw


def compute_picture(
    model: Model, data: bytes, limits: PictureLimits, is_disconnected: IsDisconnected = never_disconnected
) -> FloatArray:
    """Compute the network's raw output for an encoded picture, or for the largest of several faces in it.

    :returns: (1, columns).
    :raises BadInput: as :func:`app.serving.pipeline.open_picture`.
    """
    with open_picture(data, limits, model.draft_side) as picture:
        prepared = prepare(model, picture)
    return compute(model, prepared.tensor, is_disconnected, prepared.waited)[:1]


def scores(model: Model, raw: FloatArray) -> FloatArray:
    """Return the probabilities (N, classes) that the model computes from its network's output."""
    return probabilities(raw, model.postprocess.activation)


def best_columns(rows: FloatArray, count: int) -> NDArray[np.int64]:
    """Return the ``count`` highest columns of each row in descending order. Ties keep their order, as in
    :func:`app.serving.model.best`. A larger count than there are columns returns all.

    :param rows: (N, columns).
    :returns: (N, count) column numbers.
    """
    return np.argsort(-rows, axis=1, kind="stable")[:, :count]


def check_count(name: str, value: Any) -> int:
    """Return the requested number of classes.

    :raises BadParameter: if it is not a whole number of at least 1.
    """
    if type(value) is not int or value < 1:
        raise BadParameter(name, value, "a whole number of at least 1")
    return value
