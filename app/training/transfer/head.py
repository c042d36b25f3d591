"""The head: multinomial logistic regression on features, regularized and evaluated by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from app.engines.parity import activate
from app.types import FloatArray
from app.utils.progress import progress
from app.vision.duplicates import Group

Numbers = NDArray[np.int64]


def group_numbers(count: int, groups: tuple[Group, ...]) -> Numbers:
    """Return the number of every picture's group, which is its first member's. A single picture is a group of its own.

    :param groups: positions of pictures that belong together.
    """
    numbers = np.arange(count)
    for members in groups:
        numbers[list(members)] = members[0]
    return numbers


def smallest_class(classes: Numbers, groups: Numbers) -> int:
    """Count the groups of the class with the fewest. A group belongs to the class of its first picture."""
    _, first = np.unique(groups, return_index=True)
    return int(np.bincount(classes[first], minlength=classes.max() + 1).min())


def assign_folds(classes: Numbers, groups: Numbers, folds: int, seed: int) -> Numbers:
    """Assign the pictures to folds, with about as many pictures of every class in each fold and no group split.

    Groups are assigned in random order, the larger first, each to the fold with the fewest pictures of its class. So
    every fold has pictures of every class that has at least as many groups as there are folds.

    :param classes: (N,), 0 to K - 1.
    :param groups: (N,), any numbers.
    :returns: (N,), 0 to ``folds`` - 1.
    """
    _, first, which, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    lot = np.random.default_rng(seed).permutation(len(sizes))
    of_class = np.zeros((classes.max() + 1, folds), np.int64)
    of_group = np.zeros(len(sizes), np.int64)
    for group in lot[np.argsort(-sizes[lot], kind="stable")]:
        counts = of_class[classes[first[group]]]
        totals = of_class.sum(axis=0)
        fold = min(range(folds), key=lambda number: (counts[number], totals[number]))
        of_group[group] = fold
        counts[fold] += sizes[group]
    return of_group[which]


def parts(folds: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the positions outside and inside of each fold, for training and for validation."""
    for number in range(int(folds.max()) + 1):
        yield np.flatnonzero(folds != number), np.flatnonzero(folds == number)


STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-4, 1.5, 0.5))
"""Candidates for C, the inverse of the regularisation strength."""
INNER_FOLDS = 3
WORSE = 2
"""Steps of C without improvement that end the search: the log loss falls, then rises."""
LARGE = 2_000_000
"""Pictures times classes above which C is validated on one fold of three: it suffices, and each fold takes long."""
LEAST_DEVIATION = 1e-3
"""Standard deviation below which a feature is dead: divided by it, the feature would be noise. Typical is 0.4."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Features (N, F) with their classes and groups, (N,) each.

    ``mirrored`` has the features of the horizontally mirrored pictures, or is None.
    """

    features: FloatArray
    mirrored: FloatArray | None
    classes: Numbers
    groups: Numbers

    def take(self, positions: Numbers) -> Rows:
        """Return the rows at these positions."""
        mirrored = None if self.mirrored is None else self.mirrored[positions]
        return Rows(self.features[positions], mirrored, self.classes[positions], self.groups[positions])


@dataclass(frozen=True)
class Choice:
    """Training options of a head: the regularisation, and whether mirrored pictures are used too."""

    c: float
    mirrored: bool


@dataclass(frozen=True)
class Head:
    """A linear classifier: class scores are ``features @ weight.T + bias``, and their softmax the probabilities.

    ``weight`` is (K, F).
    """

    weight: Doubles
    bias: Doubles
    choice: Choice

    def probabilities(self, features: FloatArray) -> Doubles:
        """Return the probabilities (N, K) for features (N, F)."""
        return activate(features @ self.weight.T + self.bias, "softmax")


def fit_head(rows: Rows, seed: int) -> Head:
    """Choose the training options on these rows alone, then train.

    :param rows: with at least two groups of every class.
    """
    choice = choose(rows, seed)
    training = _Training(rows, choice.mirrored, np.float64)
    training.fit(choice.c, tolerance=1e-8)
    return training.head(choice)


def choose(rows: Rows, seed: int) -> Choice:
    """Return the options with the lowest log loss on validation pictures, which are a part of ``rows``.

    The criterion is log loss, not accuracy, because users see the probabilities, which should be accurate.
    """
    folds = assign_folds(rows.classes, rows.groups, INNER_FOLDS, seed)
    judged = list(parts(folds))
    if len(rows.classes) * (int(rows.classes.max()) + 1) > LARGE:
        judged = judged[:1]
    losses_by_choice: dict[Choice, float] = {}
    for mirrored in (False,) if rows.mirrored is None else (False, True):
        trainings = [(_Training(rows.take(inside), mirrored, np.float32), rows.take(out)) for inside, out in judged]
        losses: list[float] = []
        for c in STRENGTHS:
            losses.append(float(np.mean([training.fit(c).loss(validation) for training, validation in trainings])))
            losses_by_choice[Choice(c, mirrored)] = losses[-1]
            if len(losses) - 1 - int(np.argmin(losses)) >= WORSE:
                break
    return min(losses_by_choice, key=lambda choice: losses_by_choice[choice])


class _Training:
    """A logistic regression on standardised rows; each fit starts from the result of the previous one."""

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
        # a picture and its mirror image must weigh as much as one picture
        self._model.set_params(C=c / self._copies, tol=tolerance)
        self._model.fit(self._rows, self._classes)
        return self

    def loss(self, rows: Rows) -> float:
        probabilities = self.head(Choice(0.0, False)).probabilities(rows.features)
        true = probabilities[np.arange(len(rows.classes)), rows.classes]
        return float(-np.log(np.maximum(true, np.finfo(np.float32).eps)).mean())

    def head(self, choice: Choice) -> Head:
        """Fold the standardisation into the weights, so that the head applies to unscaled features."""
        weight = self._model.coef_.astype(np.float64)
        bias = self._model.intercept_.astype(np.float64)
        if len(weight) == 1:  # for two classes scikit-learn has one score, the second's minus the first's
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / self._deviation
        return Head(weight, bias - weight @ self._mean, choice)


@dataclass(frozen=True)
class ValidatedHead:
    """A head trained on all pictures, and its expected performance.

    ``probabilities`` (N, K) are each picture's probabilities from a head that was trained without the picture's fold;
    ``folds`` (N,) are the numbers of the folds. ``earlier`` (N, K) are the same from heads that were trained on the
    earlier pictures alone, None if there are none.
    """

    head: Head
    probabilities: Doubles
    folds: Numbers
    earlier: Doubles | None = None


def train_and_validate(
    rows: Rows, folds: int, seed: int, threads: int, earlier: NDArray[np.bool_] | None = None
) -> ValidatedHead:
    """Train once on all pictures and once without each fold.

    Each training chooses its options anew, from its own training pictures.

    :param threads: number of concurrent trainings, which does not affect the results.
    :param earlier: (N,), whether an earlier model was trained on the picture. Both models are then validated on the
        same pictures, each picture by heads that were trained without its fold.
    """
    strata = rows.classes if earlier is None else 2 * rows.classes + earlier
    numbers = assign_folds(strata, rows.groups, folds, seed)
    everything = np.arange(len(numbers))
    trained_on = [everything, *(outside for outside, _ in parts(numbers))]
    if earlier is not None:
        trained_on += [_trainable(outside[earlier[outside]], rows) for outside, _ in parts(numbers)]
    heads: dict[int, Head] = {}
    with (
        warnings.catch_warnings(),
        threadpool_limits(1, user_api="blas"),  # parallel sums differ with the number of threads
        ThreadPoolExecutor(threads) as pool,
        progress("head and validation", len(trained_on), "trainings") as bar,
    ):
        warnings.simplefilter("ignore")  # a weak regularisation that does not converge is not chosen
        tasks = {pool.submit(fit_head, _renumbered(rows.take(part)), seed): key for key, part in enumerate(trained_on)}
        for task in as_completed(tasks):
            heads[tasks[task]] = task.result()
            bar.advance()
    columns = np.arange(len(heads[0].bias))
    probabilities = np.zeros((len(numbers), len(columns)))
    before = None if earlier is None else np.zeros_like(probabilities)
    for key, (_, inside) in enumerate(parts(numbers), start=1):
        probabilities[inside] = heads[key].probabilities(rows.features[inside])
        if before is not None:
            known = columns[np.unique(rows.classes[trained_on[folds + key]])]
            before[np.ix_(inside, known)] = heads[folds + key].probabilities(rows.features[inside])
    return ValidatedHead(heads[0], probabilities, numbers, before)


def _renumbered(rows: Rows) -> Rows:
    """Return the rows with classes from 0 on without gaps."""
    return replace(rows, classes=np.unique(rows.classes, return_inverse=True)[1])


def _trainable(positions: Numbers, rows: Rows) -> Numbers:
    """Return the positions without those of classes with fewer than two groups, which cannot be trained."""
    classes, groups = rows.classes[positions], rows.groups[positions]
    enough = [kind for kind in np.unique(classes) if len(np.unique(groups[classes == kind])) > 1]
    return positions[np.isin(classes, enough)]
