from __future__ import annotations

import numpy as np
import pytest

from app.training.fit import Material, batches
from app.training.recipes import FitOptions

COUNT = 50


def material(taught: bool = False) -> Material:
    """Return pictures whose every pixel is their number, a fifth of them of class 1."""
    numbers = np.arange(COUNT, dtype=np.float32)
    pictures = np.tile(numbers[:, None, None, None], (1, 1, 2, 2))
    return Material(
        pictures, (np.arange(COUNT) % 5 == 0).astype(np.int64), np.eye(COUNT, dtype=np.float32) if taught else None
    )


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_an_epoch_has_every_picture_once_except_an_incomplete_batch() -> None:
    numbers_by_batch = [batch.pictures[:, 0, 0, 0] for batch in batches(material(), FitOptions(8, 1, 1e-3), 2, draw())]
    assert [len(numbers) for numbers in numbers_by_batch] == [8] * 6
    assert len(set(np.concatenate(numbers_by_batch))) == 48


def test_targets_belong_to_their_pictures() -> None:
    for batch in batches(material(taught=True), FitOptions(8, 1, 1e-3), 2, draw()):
        numbers = batch.pictures[:, 0, 0, 0].astype(int)
        classes, taught = batch.targets
        assert np.array_equal(classes.argmax(axis=1), numbers % 5 == 0)
        assert np.array_equal(taught.argmax(axis=1), numbers)


def test_a_sigmoid_gets_only_the_second_column() -> None:
    for batch in batches(material(), FitOptions(8, 1, 1e-3), 1, draw()):
        assert batch.targets[0].shape == (8, 1)
        assert np.array_equal(batch.targets[0][:, 0], batch.pictures[:, 0, 0, 0] % 5 == 0)


def test_weights_balance_both_classes() -> None:
    fitting = FitOptions(10, 1, 1e-3, weigh_classes=True)
    all_batches = list(batches(material(), fitting, 2, draw()))
    weights = np.concatenate([batch.weights for batch in all_batches])
    rare = np.concatenate([batch.targets[0][:, 1] for batch in all_batches]) == 1
    assert weights[rare].sum() == pytest.approx(weights[~rare].sum())
    assert weights.mean() == pytest.approx(1)


def test_targets_are_blended_in_the_same_shares_as_their_pictures() -> None:
    for batch in batches(material(taught=True), FitOptions(10, 1, 1e-3, mixup=1.0), 2, draw()):
        shares = batch.targets[1]
        assert shares @ np.arange(COUNT) == pytest.approx(batch.pictures[:, 0, 0, 0], abs=1e-4)
        assert batch.targets[0][:, 1] == pytest.approx(shares @ material().classes, abs=1e-5)
        assert (shares > 0).sum(axis=1).max() == 2


def test_smoothing_is_shared_equally_by_both_classes() -> None:
    batch = next(batches(material(), FitOptions(10, 1, 1e-3, smoothing=0.1), 2, draw()))
    assert set(np.round(batch.targets[0], 6).flatten()) == {np.float32(0.05), np.float32(0.95)}
