"""Bounds for the differences between two right computations of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike

UNITS = 8
"""Units in the last place for each layer. Two orders of summation, which the processor's vector width and the number of
threads decide, differ by about the square root of the number of terms (N. Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 2.8): as many for 64 terms, and layers of more terms have smaller weights."""


def rounding(layers: int, largest: float = 1.0, dtype: DTypeLike = np.float32) -> float:
    """Return the largest absolute difference that rounding explains.

    :param layers: layers with arithmetic between input and output; their errors add up.
    :param largest: the largest absolute value that the layers pass on; 1 for probabilities.
    :param dtype: of the computation.
    """
    return float(UNITS * layers * largest * np.finfo(dtype).eps)


def nearly(predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return predictions that equal others whose probabilities differ by rounding, as those of two processes may."""
    return [
        {**item, "probability": pytest.approx(item["probability"], abs=rounding(layers=20))} for item in predictions
    ]
