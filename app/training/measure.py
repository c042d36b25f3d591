"""How good a classifier of two classes is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.types import FloatArray


@dataclass(frozen=True)
class Measured:
    """Figures over ``n`` pictures. ``confusion[i][j]`` counts those of class *i* that were called *j*."""

    n: int
    accuracy: float
    auc: float
    confusion: tuple[tuple[int, int], tuple[int, int]]


def measure(probability: FloatArray, classes: NDArray[np.int64]) -> Measured:
    """Compare the probabilities of class 1, (N,), with the true classes, (N,) of 0 and 1. Both classes must occur."""
    called = probability >= 0.5
    truth = classes == 1
    confusion = tuple(tuple(int(np.sum((truth == i) & (called == j))) for j in (False, True)) for i in (False, True))
    return Measured(len(truth), float(np.mean(called == truth)), _auc(probability, truth), confusion)  # type: ignore[arg-type]


def _auc(score: FloatArray, truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that one of class 1 scores above one of class 0, ties counting half.

    Computed from ranks, as Mann and Whitney (1947) do.
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(truth.sum())
    above = ranks[truth].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(truth) - positive)))
