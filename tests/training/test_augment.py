from __future__ import annotations

import numpy as np
import pytest

from app.training.augment import Augmentation, augment

DRAW = np.random.default_rng


def ramp() -> np.ndarray:
    """Return a picture of 3 x 16 x 16 that is darker on the left, and whose channels differ."""
    one = np.tile(np.linspace(0.2, 0.8, 16, dtype=np.float32), (16, 1))
    return np.stack([one, one / 2, one / 4])


def test_the_only_default_augmentation_is_mirroring() -> None:
    batch = np.stack([ramp()] * 40)
    changed = augment(batch, Augmentation(), DRAW(0))
    same = [np.abs(item - ramp()).max() < 1e-6 for item in changed]
    mirrored = [np.abs(item - ramp()[:, :, ::-1]).max() < 1e-6 for item in changed]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_grey_pictures_keep_their_one_channel() -> None:
    assert augment(ramp()[:1][np.newaxis], Augmentation(zoom=0.1), DRAW(0)).shape == (1, 1, 16, 16)


def test_augmentation_keeps_shape_and_range_and_varies_each_time() -> None:
    how = Augmentation(0.2, 0.1, 0.1, 10, 0.1, 0.5, 0.5, 0.3, 0.5)
    changed = augment(np.stack([ramp()] * 8), how, DRAW(0))
    assert changed.shape == (8, 3, 16, 16)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({item.tobytes() for item in changed}) == 8


def test_pixels_outside_the_picture_are_reflected_and_never_black() -> None:
    changed = augment(np.stack([ramp()] * 20), Augmentation(zoom=0.1, shift=0.1), DRAW(0))
    assert changed[:, 0].min() > 0.15


def test_a_shift_moves_the_picture_by_at_most_its_share_of_the_side() -> None:
    spot = np.zeros((1, 1, 33, 33), np.float32)
    spot[0, 0, 16, 16] = 1
    places = [
        np.unravel_index(item[0].argmax(), (33, 33))
        for item in augment(spot.repeat(50, 0), Augmentation(shift=0.2), DRAW(0))
    ]
    far = np.abs(np.array(places) - 16).max()
    assert 4 <= far <= 7  # 0.2 * 33 = 6.6


def test_brightness_and_contrast_change_mean_and_spread_by_their_factors() -> None:
    flat = np.full((200, 1, 4, 4), 0.5, np.float32)
    means = augment(flat, Augmentation(brightness=0.2), DRAW(0)).mean(axis=(1, 2, 3))
    assert means.min() == pytest.approx(0.4, abs=0.01)
    assert means.max() == pytest.approx(0.6, abs=0.01)
    spread = (
        augment(np.stack([ramp()[:1]] * 200), Augmentation(contrast=0.3), DRAW(0)).std(axis=(1, 2, 3)) / ramp()[0].std()
    )
    assert spread.min() == pytest.approx(0.7, abs=0.02)
    assert spread.max() == pytest.approx(1.3, abs=0.02)


def test_erasing_fills_a_grey_rectangle_with_the_given_probability() -> None:
    batch = np.random.default_rng(1).random((400, 1, 32, 32)).astype(np.float32)
    changed = augment(batch, Augmentation(erase=0.25), DRAW(0))
    flat = 0
    for item in changed:
        _values, counts = np.unique(item, return_counts=True)
        flat += counts.max() >= 4
        assert counts.max() <= 10 * 10  # a third of each side
    assert flat == pytest.approx(100, abs=6 * (400 * 0.25 * 0.75) ** 0.5)
