from __future__ import annotations

import numpy as np
import pytest

from app.training.measure import measure


def test_the_figures_are_those_counted_by_hand() -> None:
    probability = np.array([0.1, 0.4, 0.6, 0.35, 0.8, 0.9], np.float32)
    classes = np.array([0, 0, 0, 1, 1, 1])
    measured = measure(probability, classes)
    assert measured.n == 6
    assert measured.accuracy == pytest.approx(4 / 6)
    assert measured.confusion == ((2, 1), (1, 2))
    # of the nine pairs of one 1 and one 0, all but (0.35, 0.4) and (0.35, 0.6) are in order
    assert measured.auc == pytest.approx(7 / 9)


def test_ties_count_half() -> None:
    assert measure(np.array([0.5, 0.5], np.float32), np.array([0, 1])).auc == pytest.approx(0.5)
