from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.engines.compat import import_keras
from app.training.networks import (
    DOGCAT_PARAMETERS,
    dogcat_network,
    dogcat_training_network,
    fold_normalisation,
    smile_network,
    smile_training_network,
)


@pytest.fixture(autouse=True)
def _fresh_names() -> None:
    import_keras().backend.clear_session()


def test_the_cat_and_dog_network_is_as_large_as_the_blogs() -> None:
    # by hand: (3*9+1)*32 + (32*9+1)*32 + (32*9+1)*64 + (64*17*17+1)*64 + (64+1)
    assert DOGCAT_PARAMETERS == 896 + 9248 + 18496 + 1183808 + 65
    assert dogcat_network().count_params() == DOGCAT_PARAMETERS


def test_the_smile_network_is_as_large_as_its_description_says() -> None:
    # (9+1)*32 + (32*9+1)*32 + (32*14*14+1)*128 + (128+1)*2
    assert smile_network().count_params() == 320 + 9248 + 802944 + 258


def disturbed(network: Any) -> Any:
    """A training network whose normalisations do something: fresh ones do next to nothing."""
    draw = np.random.default_rng(0)
    for layer in network.layers:
        if layer.name.endswith("_norm"):
            channels = len(layer.get_weights()[0])
            beta, mean = draw.normal(0, 0.3, (2, channels))
            variance = draw.uniform(0.02, 0.3, channels)
            layer.set_weights([np.ones(channels), beta, mean, variance])
    return network


@pytest.mark.parametrize(
    ("trained", "plain", "shape"),
    [
        (smile_training_network, smile_network, (6, 1, 32, 32)),
        (dogcat_training_network, dogcat_network, (6, 3, 150, 150)),
    ],
)
def test_folding_the_normalisation_changes_no_answer(
    trained: Callable[[], Any], plain: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    network = disturbed(trained())
    pictures = np.random.default_rng(1).random(shape, dtype=np.float32)
    expected = network.predict(pictures)
    assert np.ptp(expected[:, -1]) > 1e-3
    assert fold_normalisation(network, plain()).predict(pictures) == pytest.approx(expected, abs=1e-5)
