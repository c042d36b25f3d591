from __future__ import annotations

import numpy as np

from app.training.transfer.folds import assign_folds, group_numbers, parts, smallest_class


def test_every_fold_gets_its_share_of_every_class() -> None:
    classes = np.repeat([0, 1, 2], [10, 25, 7])
    folds = assign_folds(classes, np.arange(42), 5, seed=3)
    for number, shares in enumerate([{2}, {5}, {1, 2}]):
        counts = np.bincount(folds[classes == number], minlength=5)
        assert set(counts.tolist()) == shares
    assert set(np.bincount(folds).tolist()) <= {8, 9}


def test_pictures_that_belong_together_share_a_fold() -> None:
    classes = np.repeat([0, 1], 20)
    groups = group_numbers(40, ((0, 7, 12), (20, 39), (3, 25)))  # the last has pictures of both classes
    for seed in range(20):
        folds = assign_folds(classes, groups, 5, seed)
        assert len(set(folds[[0, 7, 12]])) == len(set(folds[[20, 39]])) == len(set(folds[[3, 25]])) == 1
        for number in (0, 1):
            assert set(folds[classes == number]) == set(range(5))


def test_the_seed_decides() -> None:
    classes = np.repeat([0, 1], 20)
    one, again, other = (assign_folds(classes, np.arange(40), 5, seed).tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_group_counts_once_and_for_the_class_of_its_first_picture() -> None:
    classes = np.array([0, 0, 0, 0, 1, 1, 1])
    assert smallest_class(classes, group_numbers(7, ())) == 3
    assert smallest_class(classes, group_numbers(7, ((0, 1, 2),))) == 2
    assert smallest_class(classes, group_numbers(7, ((0, 4, 5),))) == 1


def test_each_picture_is_judged_once_by_what_was_trained_on_all_others() -> None:
    folds = np.array([1, 0, 2, 1])
    assert [(a.tolist(), b.tolist()) for a, b in parts(folds)] == [
        ([0, 2, 3], [1]),
        ([1, 2], [0, 3]),
        ([0, 1, 3], [2]),
    ]
