"""Which pictures are kept together, and into which fold they go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.training.duplicates import Group

Numbers = NDArray[np.int64]


def group_numbers(count: int, groups: tuple[Group, ...]) -> Numbers:
    """Number every picture's group: that of its first member. A picture alone is a group of its own.

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
    """Deal the pictures out, so that each fold gets about as many of every class and groups stay whole.

    Groups come in an order drawn by lot, the larger first, and each goes where the fewest of its class are. So every
    fold has pictures of every class that has as many groups as there are folds.

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
    """Give the positions outside and inside of each fold: what is trained on, and what is judged."""
    for number in range(int(folds.max()) + 1):
        yield np.flatnonzero(folds != number), np.flatnonzero(folds == number)
