from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from app.training.transfer import head
from app.training.transfer.head import (
    STRENGTHS,
    Choice,
    Rows,
    _Training,
    assign_folds,
    choose,
    fit_head,
    group_numbers,
    parts,
    smallest_class,
    train_and_validate,
)


def test_every_fold_gets_its_share_of_every_class() -> None:
    classes = np.repeat([0, 1, 2], [10, 25, 7])
    folds = assign_folds(classes, np.arange(42), 5, seed=3)
    for number, shares in enumerate([{2}, {5}, {1, 2}]):
        counts = np.bincount(folds[classes == number], minlength=5)
        assert set(counts.tolist()) == shares
    assert set(np.bincount(folds).tolist()) <= {8, 9}


def test_pictures_of_a_group_share_a_fold() -> None:
    classes = np.repeat([0, 1], 20)
    groups = group_numbers(40, ((0, 7, 12), (20, 39), (3, 25)))  # the last has pictures of both classes
    for seed in range(20):
        folds = assign_folds(classes, groups, 5, seed)
        assert len(set(folds[[0, 7, 12]])) == len(set(folds[[20, 39]])) == len(set(folds[[3, 25]])) == 1
        for number in (0, 1):
            assert set(folds[classes == number]) == set(range(5))


def test_the_seed_determines_the_folds() -> None:
    classes = np.repeat([0, 1], 20)
    one, again, other = (assign_folds(classes, np.arange(40), 5, seed).tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_group_counts_once_for_the_class_of_its_first_picture() -> None:
    classes = np.array([0, 0, 0, 0, 1, 1, 1])
    assert smallest_class(classes, group_numbers(7, ())) == 3
    assert smallest_class(classes, group_numbers(7, ((0, 1, 2),))) == 2
    assert smallest_class(classes, group_numbers(7, ((0, 4, 5),))) == 1


def test_each_picture_is_validated_once_by_a_head_trained_on_all_others() -> None:
    folds = np.array([1, 0, 2, 1])
    assert [(a.tolist(), b.tolist()) for a, b in parts(folds)] == [
        ([0, 2, 3], [1]),
        ([1, 2], [0, 3]),
        ([0, 1, 3], [2]),
    ]


WIDTH = 12


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Limit the threads: matrices as small as these are multiplied more slowly by several threads."""
    with threadpool_limits(1):
        yield


def draw(classes: int, each: int, distance: float, seed: int = 0) -> Rows:
    """Return clouds of points around centres, on axes of very different lengths."""
    lot = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(classes), each)
    centres = lot.normal(0, distance, (classes, WIDTH))
    points = (centres[numbers] + lot.normal(0, 1, (len(numbers), WIDTH))) * np.logspace(-1, 2, WIDTH) + 5
    return Rows(points.astype(np.float32), None, numbers, np.arange(len(numbers)))


def best_by_grid_search(rows: Rows, folds: PredefinedSplit) -> float:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    search = GridSearchCV(pipeline, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    search.fit(rows.features.astype(np.float64), rows.classes)
    return float(search.best_params_["logisticregression__C"])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_head_matches_scikit_learn(classes: int) -> None:
    rows, unseen = draw(classes, 20, 0.5), draw(classes, 20, 0.5, seed=9).features
    fitted = fit_head(rows, seed=1)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=fitted.choice.c, tol=1e-9, max_iter=10_000))
    reference.fit(rows.features.astype(np.float64), rows.classes)
    assert fitted.probabilities(unseen) == pytest.approx(reference.predict_proba(unseen.astype(np.float64)), abs=1e-5)


@pytest.mark.parametrize("distance", [0.1, 0.4, 2.0])
def test_the_chosen_regularisation_is_that_of_scikit_learn_by_log_loss(distance: float) -> None:
    rows = draw(3, 30, distance)
    folds = PredefinedSplit(assign_folds(rows.classes, rows.groups, 3, seed=4))
    assert choose(rows, seed=4) == Choice(best_by_grid_search(rows, folds), False)


def test_very_many_pictures_are_validated_on_one_fold_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LARGE", 1)
    rows = draw(3, 30, 0.4)
    first = np.where(assign_folds(rows.classes, rows.groups, 3, seed=4) == 0, 0, -1)  # -1: never judged
    assert choose(rows, seed=4) == Choice(best_by_grid_search(rows, PredefinedSplit(first)), False)


def test_mirrored_pictures_are_used_only_if_they_help() -> None:
    rows, more = draw(2, 6, 0.7), draw(2, 6, 0.7)
    lot = np.random.default_rng(2)
    noisy = (rows.features + lot.normal(0, 1, rows.features.shape) * np.logspace(-1, 2, WIDTH)).astype(np.float32)
    swapped = more.features[::-1].copy()  # as an arrow to the left becomes one to the right
    helped = choose(Rows(rows.features, noisy, rows.classes, rows.groups), seed=1)
    harmed = choose(Rows(rows.features, swapped, rows.classes, rows.groups), seed=1)
    assert (helped.mirrored, harmed.mirrored) == (True, False)


def test_mirror_images_equal_to_their_pictures_change_nothing() -> None:
    rows = draw(3, 20, 0.5)
    doubled = Rows(rows.features, rows.features, rows.classes, rows.groups)
    plain = _Training(rows, False, np.float64).fit(0.1, 1e-9).head(Choice(0.1, False))
    twice = _Training(doubled, True, np.float64).fit(0.1, 1e-9).head(Choice(0.1, True))
    assert twice.weight == pytest.approx(plain.weight, abs=1e-5)


def test_validation_accuracy_is_at_chance_if_nothing_can_be_learned() -> None:
    lot = np.random.default_rng(6)
    classes = np.repeat([0, 1], 150)
    features = lot.normal(0, 1, (300, WIDTH)).astype(np.float32)
    validated = train_and_validate(Rows(features, None, classes, np.arange(300)), folds=5, seed=1, threads=2)
    accuracy = float((validated.probabilities.argmax(axis=1) == classes).mean())
    assert abs(accuracy - 0.5) < 3 * (0.25 / 300) ** 0.5  # three standard deviations of a fair coin
    own = validated.head.probabilities(features)
    assert float((own.argmax(axis=1) == classes).mean()) > accuracy  # of what it was trained on it knows more


def test_the_number_of_threads_does_not_change_the_result() -> None:
    rows = draw(3, 20, 0.3)
    one, two = (train_and_validate(rows, folds=4, seed=1, threads=threads) for threads in (1, 2))
    assert one.head.weight.tobytes() == two.head.weight.tobytes()
    assert one.probabilities.tobytes() == two.probabilities.tobytes()


def test_an_earlier_model_is_validated_on_the_same_pictures_and_folds() -> None:
    lot = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 12)
    features = (lot.normal(size=(36, 4)) + 3 * np.eye(4)[classes]).astype(np.float32)
    rows = Rows(features, None, classes, np.arange(36))
    earlier = np.arange(36) % 2 == 0
    earlier &= classes < 2  # the earlier model does not know the third class
    validated = train_and_validate(rows, 3, 1, 2, earlier)
    assert validated.earlier is not None
    assert np.allclose(validated.earlier.sum(axis=1), 1)
    assert not validated.earlier[:, 2].any()
    for fold in range(3):  # the same as training on what is left of the earlier pictures
        left = np.flatnonzero(earlier & (validated.folds != fold))
        alone = fit_head(rows.take(left), 1)
        inside = validated.folds == fold
        assert np.allclose(validated.earlier[inside, :2], alone.probabilities(features[inside]), atol=1e-6)
