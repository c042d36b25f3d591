"""How far one engine's answers are from another's."""

from __future__ import annotations

import numpy as np

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
    found, expected = activated(found, activation), activated(expected, activation)
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def activated(rows: FloatArray, activation: Activation) -> FloatArray:
    """Make probabilities of a network's answers (N, classes), in 64 bits."""
    wide = rows.astype(np.float64)
    if activation == "softmax":
        wide = np.exp(wide - wide.max(axis=1, keepdims=True))
        wide /= wide.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        wide = 1 / (1 + np.exp(-np.clip(wide, -700, 700)))  # e^709 is the largest that float64 holds
    return wide  # type: ignore[return-value]
