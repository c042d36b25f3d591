from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import import_keras
from app.training.batchnorm_folding import build_folded_network, fold_weights
from app.training.recipes import dogcat_network, smile_network, smile_tutorial_network


@pytest.fixture(autouse=True)
def _fresh_names() -> None:
    import_keras().backend.clear_session()


def disturbed(network: Any) -> Any:
    """Return a twin whose normalisations do something: fresh ones do next to nothing."""
    draw = np.random.default_rng(0)
    for layer in network.layers:
        if layer.name.endswith("_norm"):
            channels = len(layer.get_weights()[0])
            beta, mean = draw.normal(0, 0.3, (2, channels))
            variance = draw.uniform(0.02, 0.3, channels)
            layer.set_weights([np.ones(channels), beta, mean, variance])
    return network


@pytest.mark.parametrize(
    ("plain", "shape"),
    [
        (smile_tutorial_network, (6, 1, 32, 32)),
        (smile_network, (6, 1, 64, 64)),
        (dogcat_network, (6, 3, 150, 150)),
    ],
)
def test_a_network_answers_as_its_folded_counterpart(plain: Callable[[], Any], shape: tuple[int, ...]) -> None:
    twin = disturbed(build_folded_network(plain()))
    pictures = np.random.default_rng(1).random(shape, dtype=np.float32)
    expected = twin.predict(pictures)
    assert np.ptp(expected[:, -1]) > 1e-4
    assert fold_weights(twin, plain()).predict(pictures) == pytest.approx(expected, abs=1e-5)


def test_the_output_for_a_teacher_is_not_part_of_the_saved_network() -> None:
    twin = disturbed(build_folded_network(smile_tutorial_network(), teacher_classes=7, dropout=0.3))
    pictures = np.random.default_rng(1).random((3, 1, 32, 32), dtype=np.float32)
    answer, taught = twin.predict(pictures)
    assert taught.shape == (3, 7)
    assert taught.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert fold_weights(twin, smile_tutorial_network()).predict(pictures) == pytest.approx(answer, abs=1e-5)


def test_all_layers_but_the_last_are_normalised_and_have_no_bias() -> None:
    twin = build_folded_network(dogcat_network())
    assert [layer.name for layer in twin.layers if layer.name.endswith("_norm")] == [
        "conv2d_1_norm",
        "conv2d_2_norm",
        "conv2d_3_norm",
        "dense_1_norm",
    ]
    assert [len(twin.get_layer(name).get_weights()) for name in ("conv2d_1", "dense_1", "dense_2")] == [1, 1, 2]
