"""Probabilities that mean what they say: of the pictures that are called with 0.8, eight in ten are called rightly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from app.types import FloatArray

HOTTEST = 10.0
"""No network that is worth serving is ten times too sure, or ten times too shy, of itself."""


def temperature(probability: FloatArray, classes: NDArray[np.int64]) -> float:
    """The temperature by which a network's scores are to be divided for the lowest log loss (Guo et al. 2017, "On
    Calibration of Modern Neural Networks"). It changes no picture's class.

    :param probability: (N,), of class 1, on pictures that the network was not trained on.
    :param classes: (N,), true, 0 or 1.
    """
    return _best(probability, classes)[0]


def calibrated_loss(probability: FloatArray, classes: NDArray[np.int64]) -> float:
    """The log loss, in nats, at that temperature."""
    return _best(probability, classes)[1]


def _best(probability: FloatArray, classes: NDArray[np.int64]) -> tuple[float, float]:
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    score = np.log(clipped / (1 - clipped))
    sign = np.where(classes == 1, -1.0, 1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, sign * score / np.exp(log_temperature)).mean())

    reach = np.log(HOTTEST)
    found = minimize_scalar(loss, bounds=(-reach, reach), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def cool(network: Any, by: float) -> None:
    """Divide the scores of a network's last layer, a softmax or a sigmoid, by a temperature, in its weights."""
    last = network.layers[-1]
    last.set_weights([weights / by for weights in last.get_weights()])
