from __future__ import annotations

import itertools

import pytest

from app.engines.mxnet.compat import import_keras
from app.training.recipes import DOGCAT_PARAMETERS, dogcat_network, smile_network, smile_tutorial_network


@pytest.fixture(autouse=True)
def _fresh_names() -> None:
    import_keras().backend.clear_session()


def test_the_cat_and_dog_network_has_the_size_of_that_in_the_blog() -> None:
    # by hand: (3*9+1)*32 + (32*9+1)*32 + (32*9+1)*64 + (64*17*17+1)*64 + (64+1)
    assert DOGCAT_PARAMETERS == 896 + 9248 + 18496 + 1183808 + 65
    assert dogcat_network().count_params() == DOGCAT_PARAMETERS


def test_the_smile_network_of_the_tutorial_has_the_described_size() -> None:
    # (9+1)*32 + (32*9+1)*32 + (32*14*14+1)*128 + (128+1)*2
    assert smile_tutorial_network().count_params() == 320 + 9248 + 802944 + 258


def test_the_smile_network_has_eight_convolutions_and_is_small() -> None:
    network = smile_network()
    widths = [1, 24, 24, 48, 48, 96, 96, 128, 128]
    assert network.count_params() == sum((9 * a + 1) * b for a, b in itertools.pairwise(widths)) + 129 * 2
    assert network.output_shape == (None, 2)
    assert network.count_params() * 4 < 5_000_000  # bytes
