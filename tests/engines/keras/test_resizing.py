"""The matrices of TensorFlow's resizing, against what its definition gives by hand; the fixtures compare the rest."""

from __future__ import annotations

import numpy as np
import pytest

from app.engines.keras.graph import resizing
from app.errors import ModelFormatError


@pytest.mark.parametrize(
    ("old", "new", "method", "expected"),
    [
        # the middles of four lines lie at -0.25, 0.25, 0.75 and 1.25 of two lines' middles; beyond the edge is the edge
        (2, 4, "bilinear", [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        # the beginnings lie at 0, 0.5, 1 and 1.5
        (2, 4, "bilinear of TensorFlow 1", [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]),
        (4, 2, "area", [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
        (3, 2, "area", [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]),
        # middles at 0.5 * 14 / 5 = 1.4, then 4.2, 7.0, 9.8 and 12.6
        (14, 5, "nearest", [[float(line == source) for line in range(14)] for source in (1, 4, 7, 9, 12)]),
        (2, 2, "lanczos3", [[1, 0], [0, 1]]),
    ],
)
def test_resizing_matches_its_definition(old: int, new: int, method: str, expected: list[list[float]]) -> None:
    assert resizing(old, new, method) == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize(("new", "method"), [(2, "gaussian"), (4, "lanczos3"), (10**9, "nearest"), (0, "nearest")])
def test_an_unknown_method_or_too_large_size_is_refused(new: int, method: str) -> None:
    with pytest.raises(ModelFormatError, match=r"it resizes"):
        resizing(2, new, method)
