from __future__ import annotations

import numpy as np

from app.training.augment import Augmentation, augment

NOTHING = Augmentation(zoom=0, shift=0, rotation=0, shear=0, light=0)


def ramp() -> np.ndarray:
    """A picture of 3 x 16 x 16 that is darker on the left, and whose channels differ."""
    one = np.tile(np.linspace(0.2, 0.8, 16, dtype=np.float32), (16, 1))
    return np.stack([one, one / 2, one / 4])


def test_without_any_change_a_picture_is_itself_or_its_mirror_image() -> None:
    batch = np.stack([ramp()] * 40)
    changed = augment(batch, NOTHING, np.random.default_rng(0))
    same = [np.abs(one - ramp()).max() < 0.01 for one in changed]
    mirrored = [np.abs(one - ramp()[:, :, ::-1]).max() < 0.01 for one in changed]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_a_change_keeps_shape_and_range_and_draws_another_picture_each_time() -> None:
    how = Augmentation(zoom=0.2, shift=0.1, rotation=10, shear=0.1, light=0.2)
    changed = augment(np.stack([ramp()] * 8), how, np.random.default_rng(0))
    assert changed.shape == (8, 3, 16, 16)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({one.tobytes() for one in changed}) == 8


def test_what_lies_outside_mirrors_the_inside_and_is_never_black() -> None:
    how = Augmentation(zoom=0.1, shift=0.1, rotation=0, shear=0, light=0)
    changed = augment(np.stack([ramp()] * 20), how, np.random.default_rng(0))
    assert changed[:, 0].min() > 0.15
