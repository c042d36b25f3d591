"""Conversion of the network's output to probabilities, and selection of the best classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.engines.parity import activate
from app.errors import ModelFormatError
from app.types import Activation, FloatArray, Prediction


def probabilities(output: FloatArray, activation: Activation) -> FloatArray:
    """Convert the network's output to probabilities.

    :param output: (N, classes) or a shape that flattens to it, such as (N, classes, 1, 1). One column *p* becomes the
        two columns *1 - p* and *p*.
    :returns: float32 (N, classes), 0-1.
    :raises ModelFormatError: if a value is not a finite number.
    """
    if not np.isfinite(output).all():
        raise ModelFormatError("the network's answer holds values that are not numbers; its weights are damaged")
    rows = activate(output.reshape(len(output), -1), activation)
    if rows.shape[1] == 1:
        rows = np.hstack([1 - rows, rows])
    return rows.astype(np.float32)


def best(row: FloatArray, labels: Sequence[str], top: int) -> tuple[Prediction, ...]:
    """Return the ``top`` most probable classes of one row in descending order; 0 returns all. Ties keep the labels'
    order."""
    order = np.argsort(-row, kind="stable")[: top or len(row)]
    return tuple(Prediction(labels[index], float(row[index])) for index in order)
