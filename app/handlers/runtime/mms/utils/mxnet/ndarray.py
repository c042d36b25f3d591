"""Scores to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np


def top_probability(data: Any, labels: Sequence[str], top: int = 5) -> list[dict[str, Any]]:
    """Return the classes of the largest scores, the largest first.

    :param data: NDArray, (classes,), (N, classes) or (N, classes, 1, 1); only the first row counts.
    :param labels: one label a class.
    :param top: how many; all where there are fewer.
    """
    scores = np.squeeze(data.asnumpy(), axis=tuple(range(2, data.ndim)))
    scores = scores[0] if scores.ndim > 1 else scores
    # MXNet's own order among equal scores, which NumPy's is not
    best = mx.nd.argsort(mx.nd.array(scores), is_ascend=False)[:top].asnumpy().astype(int)
    return [{"probability": float(scores[index]), "class": labels[index]} for index in best]
