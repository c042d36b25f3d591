"""How far one engine's answers are from another's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine
from app.types import Activation, FloatArray

LIMIT = 1e-4
"""The largest difference between two probabilities that may be served: it changes nobody's decision."""


def predict_each(engine: Engine, rows: FloatArray) -> FloatArray:
    """Return an engine's answers (N, classes) to inputs (N, …), computed one by one."""
    return np.concatenate([engine.predict(rows[number : number + 1]) for number in range(len(rows))])


def difference(found: FloatArray, expected: FloatArray, activation: Activation) -> float:
    """Compare an engine's answers (N, classes) with the reference's.

    :param activation: what makes probabilities of the answers.
    :returns: the largest difference between probabilities; if the answers are something else, in parts of the
        reference's largest value. Infinite if a value is not a number, or the answers are of different shapes.
    """
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    ours, reference = activate(found, activation), activate(expected, activation)
    return float(np.abs(ours - reference).max() / max(1.0, np.abs(reference).max()))


def activate(rows: NDArray[np.floating[Any]], activation: Activation) -> NDArray[np.float64]:
    """Return the softmax or the sigmoid of a network's answers (N, classes), in 64 bits."""
    wide = rows.astype(np.float64)
    if activation == "softmax":
        wide = np.exp(wide - wide.max(axis=1, keepdims=True))
        wide /= wide.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        wide = 1 / (1 + np.exp(-np.clip(wide, -700, 700)))  # e^709 is the largest that float64 holds
    return wide
