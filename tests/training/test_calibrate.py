from __future__ import annotations

import numpy as np
import pytest

from app.engines.compat import import_keras
from app.training.calibrate import calibrated_loss, cool, temperature
from app.training.networks import smile_tutorial_network


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_scores_that_were_multiplied_by_a_factor_get_it_back_as_their_temperature(true: float) -> None:
    draw = np.random.default_rng(0)
    score = draw.normal(0, 2, 40_000)
    classes = (draw.random(40_000) < 1 / (1 + np.exp(-score))).astype(np.int64)
    shown = 1 / (1 + np.exp(-score * true))
    assert temperature(shown.astype(np.float32), classes) == pytest.approx(true, rel=0.05)


def test_a_network_whose_mistakes_cannot_be_helped_stays_in_range() -> None:
    assert 0.1 <= temperature(np.array([0.9, 0.9], np.float32), np.array([0, 0])) <= 10
    assert 0.1 <= temperature(np.array([0.9, 0.1], np.float32), np.array([1, 0])) <= 10


def test_a_cooled_network_answers_with_its_scores_divided() -> None:
    import_keras().backend.clear_session()
    network = smile_tutorial_network()
    pictures = np.random.default_rng(1).random((5, 1, 32, 32), dtype=np.float32)
    before = np.log(network.predict(pictures))
    cool(network, 0.5)
    after = np.log(network.predict(pictures))
    assert np.ptp(before[:, 1]) > 1e-4
    assert after[:, 1] - after[:, 0] == pytest.approx(2 * (before[:, 1] - before[:, 0]), abs=1e-4)


def test_the_loss_is_that_at_the_best_temperature() -> None:
    # three in four right, all equally sure: the best that can be said is 3/4, whatever the network said
    probability, classes = np.array([0.99, 0.99, 0.99, 0.99], np.float32), np.array([1, 1, 1, 0])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert calibrated_loss(probability, classes) == pytest.approx(entropy, abs=1e-4)
