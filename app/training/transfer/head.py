"""The head: multinomial logistic regression on features, as strongly regularised as cross-validation finds best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from app.engines.parity import activate
from app.training.transfer.folds import Numbers, assign_folds, parts
from app.types import FloatArray

STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-4, 1.5, 0.5))
"""What C, the inverse of the regularisation, is chosen from."""
INNER_FOLDS = 3
WORSE = 2
"""So many steps of C without a gain end the search: the log loss falls, then rises."""
LARGE = 2_000_000
"""Pictures times classes from which C is judged on one fold of three: enough to judge by, and it takes long."""
LEAST_DEVIATION = 1e-3
"""Features that vary by less are dead; divided by their standard deviation they would be noise. Typical is 0.4."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Features (N, F) with their classes and groups, (N,) each. ``mirrored`` are the features of the pictures turned
    left to right, or None."""

    features: FloatArray
    mirrored: FloatArray | None
    classes: Numbers
    groups: Numbers

    def take(self, positions: Numbers) -> Rows:
        """Give some of the rows."""
        mirrored = None if self.mirrored is None else self.mirrored[positions]
        return Rows(self.features[positions], mirrored, self.classes[positions], self.groups[positions])


@dataclass(frozen=True)
class Choice:
    """How a head is trained: the regularisation, and whether on mirrored pictures too."""

    c: float
    mirrored: bool


@dataclass(frozen=True)
class Head:
    """Class scores are ``features @ weight.T + bias``, and their softmax the probabilities; ``weight`` is (K, F)."""

    weight: Doubles
    bias: Doubles
    choice: Choice

    def probabilities(self, features: FloatArray) -> Doubles:
        """Give (N, K) of (N, F)."""
        return activate(features @ self.weight.T + self.bias, "softmax")


def fit_head(rows: Rows, seed: int) -> Head:
    """Choose how to train on these rows alone, then train.

    :param rows: with at least two groups of every class.
    """
    choice = choose(rows, seed)
    training = _Training(rows, choice.mirrored, np.float64)
    training.fit(choice.c, tolerance=1e-8)
    return training.head(choice)


def choose(rows: Rows, seed: int) -> Choice:
    """Find what gives the least log loss on pictures that were kept back, of those in ``rows``.

    Log loss, not accuracy, because the probabilities are shown: they should mean what they say.
    """
    folds = assign_folds(rows.classes, rows.groups, INNER_FOLDS, seed)
    judged = list(parts(folds))
    if len(rows.classes) * (int(rows.classes.max()) + 1) > LARGE:
        judged = judged[:1]
    found: dict[Choice, float] = {}
    for mirrored in (False,) if rows.mirrored is None else (False, True):
        trainings = [(_Training(rows.take(inside), mirrored, np.float32), rows.take(out)) for inside, out in judged]
        losses: list[float] = []
        for c in STRENGTHS:
            losses.append(float(np.mean([training.fit(c).loss(kept) for training, kept in trainings])))
            found[Choice(c, mirrored)] = losses[-1]
            if len(losses) - 1 - int(np.argmin(losses)) >= WORSE:
                break
    return min(found, key=lambda choice: found[choice])


class _Training:
    """Logistic regression on standardised rows; each fit begins where the one before it ended."""

    def __init__(self, rows: Rows, mirrored: bool, dtype: type[np.floating[Any]]) -> None:
        features, classes = rows.features, rows.classes
        if mirrored and rows.mirrored is not None:
            features, classes = np.concatenate([features, rows.mirrored]), np.concatenate([classes, classes])
        self._copies = len(classes) // len(rows.classes)
        self._mean = features.mean(axis=0, dtype=np.float64)
        self._deviation = np.maximum(features.std(axis=0, dtype=np.float64), LEAST_DEVIATION)
        self._rows = ((features - self._mean) / self._deviation).astype(dtype)
        self._classes = classes
        self._model = LogisticRegression(warm_start=True, max_iter=1000)

    def fit(self, c: float, tolerance: float = 1e-4) -> _Training:
        # a picture and its mirror image are to weigh as much as one picture does
        self._model.set_params(C=c / self._copies, tol=tolerance)
        self._model.fit(self._rows, self._classes)
        return self

    def loss(self, kept: Rows) -> float:
        probabilities = self.head(Choice(0.0, False)).probabilities(kept.features)
        true = probabilities[np.arange(len(kept.classes)), kept.classes]
        return float(-np.log(np.maximum(true, np.finfo(np.float32).eps)).mean())

    def head(self, choice: Choice) -> Head:
        """Fold the standardisation into the weights, so that the head takes features as they are."""
        weight = self._model.coef_.astype(np.float64)
        bias = self._model.intercept_.astype(np.float64)
        if len(weight) == 1:  # of two classes scikit-learn keeps one score, the second's less the first's
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / self._deviation
        return Head(weight, bias - weight @ self._mean, choice)
