"""A network asked without the steps around it: its own input tensor, or a picture, in; its own numbers out.

Whoever speaks a tensor protocol comes here. Pictures take the way of :mod:`app.serving.pipeline`, one after another, so
that what is said of one does not depend on the protocol, nor on the pictures beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backend.batching import IsDisconnected, never_disconnected
from app.errors import BadInput, BadParameter, TooManyFiles
from app.serving.model import Model
from app.serving.pipeline import open_picture, prepare
from app.serving.postprocess import probabilities
from app.settings import PictureLimits
from app.types import FloatArray
from app.vision.preprocess import input_size

ROWS = 4
EXACT_WHOLE = 2**24
"""Up to this, float32 has every whole number."""


def row_shape(model: Model) -> tuple[int, ...]:
    """Return the shape of one row of the network's input, without open sizes: (C, H, W), (H, W, C), or (H, W)."""
    height, width = input_size(model.preprocess, model.input.shape)
    if len(model.input.shape) == 3:
        return (height, width)
    channels = 1 if model.preprocess.color == "grey" else 3
    return (channels, height, width) if model.preprocess.layout == "NCHW" else (height, width, channels)


def check_rows(model: Model, shape: Sequence[int], max_rows: int) -> None:
    """See whether a tensor fits the network, before anything is made of its values.

    :raises BadInput: where its rows have another shape than the network's input, or there is none.
    :raises TooManyFiles: where there are more of them than ``max_rows``; a row counts as a picture.
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
    """Return the same numbers as the networks take them.

    :param values: of any numeric type, or truths, which become 0 and 1.
    :param before: values on the first axis that were converted before these, for the message.
    :raises BadInput: if one of them is no finite number, or float32 does not have it.
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
            f"The tensor holds {values[index]!s} at {where}, which is no finite number of float32 (in which networks "
            "compute). Round the values to FP32, or scale them, before they are sent."
        )
    return converted


def compute_rows(
    model: Model, values: NDArray[Any], is_disconnected: IsDisconnected = never_disconnected
) -> FloatArray:
    """Compute a tensor, a few rows at a time: a network takes much memory for many.

    :param values: (N, …), as :func:`check_rows` lets it pass, of any numeric type.
    :returns: (N, columns), as :func:`compute`.
    :raises BadInput: as :func:`as_float32` and :func:`compute`.
    :raises ModelUnavailable: as :func:`compute`.
    """
    starts = range(0, len(values), ROWS)
    return np.concatenate([compute(model, as_float32(values[at : at + ROWS], at), is_disconnected) for at in starts])


def compute(
    model: Model, tensor: FloatArray, is_disconnected: IsDisconnected = never_disconnected, waited: float = 0.0
) -> FloatArray:
    """Return what the network itself gives for its input, when it is its turn.

    :param tensor: (N, …), as :func:`check_rows` lets it pass.
    :param waited: seconds that the request has waited before.
    :returns: (N, columns): logits or probabilities, as the network has them.
    :raises BadInput: where the network's answer is not finite, which the values of a tensor can bring about.
    :raises ModelUnavailable: where it waited too long; see :class:`app.backend.batching.BatchQueue`.
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
    """Return the same for a picture as it came; of several faces in it, for the largest.

    :returns: (1, columns).
    :raises BadInput: as :func:`app.serving.pipeline.open_picture`.
    """
    with open_picture(data, limits, model.draft_side) as picture:
        prepared = prepare(model, picture)
    return compute(model, prepared.tensor, is_disconnected, prepared.waited)[:1]


def scores(model: Model, raw: FloatArray) -> FloatArray:
    """Return the probabilities (N, classes) that the model makes of its network's numbers."""
    return probabilities(raw, model.postprocess.activation)


def best_columns(rows: FloatArray, count: int) -> NDArray[np.int64]:
    """Return the ``count`` highest columns of each row, falling; equals keep their order, as in
    :func:`app.serving.postprocess.best`. More than there are gives all.

    :param rows: (N, columns).
    :returns: (N, count) numbers of columns.
    """
    return np.argsort(-rows, axis=1, kind="stable")[:, :count]


def check_count(name: str, value: Any) -> int:
    """Return how many classes are asked for.

    :raises BadParameter: where it is not a whole number of at least 1.
    """
    if type(value) is not int or value < 1:
        raise BadParameter(name, value, "a whole number of at least 1")
    return value
