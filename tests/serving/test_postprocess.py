from __future__ import annotations

import math

import numpy as np
import pytest

from app.errors import ModelFormatError
from app.serving.model import best, probabilities


def array(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_softmax_matches_the_formula() -> None:
    total = math.exp(1) + math.exp(2) + math.exp(3)
    expected = [math.exp(x) / total for x in (1, 2, 3)]
    assert probabilities(array([1, 2, 3]), "softmax")[0] == pytest.approx(expected, abs=1e-7)


def test_softmax_survives_huge_logits() -> None:
    assert probabilities(array([10000, 0]), "softmax").tolist() == [[1, 0]]


def test_sigmoid_of_one_logit_gives_two_classes() -> None:
    p = 1 / (1 + math.exp(-2))
    assert probabilities(array([2]), "sigmoid")[0] == pytest.approx([1 - p, p], abs=1e-7)


def test_one_probability_gives_two_classes() -> None:
    assert probabilities(array([0.25], [1.0]), "none").tolist() == [[0.75, 0.25], [0, 1]]


def test_a_map_of_one_pixel_counts_as_a_row() -> None:
    assert probabilities(np.full((2, 4, 1, 1), 0.25, np.float32), "none").shape == (2, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_output_is_an_error(bad: float) -> None:
    with pytest.raises(ModelFormatError, match="not numbers"):
        probabilities(array([bad, 0]), "softmax")


def test_the_best_classes_are_in_descending_order_and_ties_keep_theirs() -> None:
    found = best(np.array([0.2, 0.4, 0.2, 0.2], np.float32), "abcd", 3)
    assert [prediction.label for prediction in found] == ["b", "a", "c"]


@pytest.mark.parametrize(("top", "count"), [(0, 3), (1, 1), (3, 3), (9, 3)])
def test_top_limits_the_number_of_classes_and_zero_means_all(top: int, count: int) -> None:
    assert len(best(np.array([0.2, 0.5, 0.3], np.float32), "abc", top)) == count
