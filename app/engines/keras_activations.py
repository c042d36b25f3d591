"""Keras's activations, in MXNet's operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mxnet as mx

from app.engines.keras_tensorflow import Value
from app.errors import ModelFormatError

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""Klambauer et al., 2017, arXiv:1706.02515."""


def relu(x: Any, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> Any:
    """``x`` from the threshold to the largest value; below, ``negative_slope * (x - threshold)``."""
    above = mx.sym.relu(x) if threshold == 0 else x * mx.sym._internal._greater_scalar(x, scalar=float(threshold))
    if max_value is not None:
        above = mx.sym.clip(above, a_min=0.0, a_max=float(max_value))
    if not negative_slope:
        return above
    return above - mx.sym.relu(-1.0 * x + float(threshold)) * float(negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """``x``, and ``alpha * (exp(x) - 1)`` below zero."""
    return mx.sym.relu(x) + (mx.sym.exp(-1.0 * mx.sym.relu(-1.0 * x)) - 1.0) * float(alpha)


def softmax(value: Value, axis: int = -1) -> Value:
    """Make numbers along an axis positive, with the sum 1."""
    return replace(value, symbol=mx.sym.softmax(value.symbol, axis=value.axis(axis)))


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, of large numbers too."""
    return mx.sym.relu(x) + mx.sym.log(mx.sym.exp(-1.0 * mx.sym.abs(x)) + 1.0)


def gelu(x: Any, approximate: bool = False) -> Any:
    """``x * Phi(x)`` with the normal distribution's Phi (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    if approximate:
        return x * (mx.sym.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1.0) * 0.5
    return x * (mx.sym.erf(x / math.sqrt(2.0)) + 1.0) * 0.5


def hard_swish(x: Any) -> Any:
    """``x * relu6(x + 3) / 6`` (Howard et al., 2019, arXiv:1905.02244)."""
    return x * relu(x + 3.0, 6.0) / 6.0


def selu(x: Any) -> Any:
    """``elu`` with a scale that keeps mean and variance."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


def swish(x: Any) -> Any:
    """``x * sigmoid(x)`` (Ramachandran et al., 2017, arXiv:1710.05941)."""
    return x * mx.sym.sigmoid(x)


ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": lambda x: relu(x, 6.0),
    "leaky_relu": lambda x: relu(x, negative_slope=0.2),
    "elu": elu,
    "selu": selu,
    "sigmoid": mx.sym.sigmoid,
    "tanh": mx.sym.tanh,
    "exponential": mx.sym.exp,
    "softplus": softplus,
    "softsign": lambda x: x / (mx.sym.abs(x) + 1.0),
    "hard_sigmoid": lambda x: mx.sym.clip(x * 0.2 + 0.5, a_min=0.0, a_max=1.0),
    "hard_swish": hard_swish,
    "hard_silu": hard_swish,
    "swish": swish,
    "silu": swish,
    "gelu": gelu,
    "mish": lambda x: x * mx.sym.tanh(softplus(x)),
}


def activate(value: Value, name: Any) -> Value:
    """Apply an activation that Keras saved by its name.

    :raises ModelFormatError: if it is unknown.
    """
    if name is None:
        return value
    if name in ("softmax", "softmax_v2"):
        return softmax(value)
    if name not in ELEMENTWISE:
        known = ", ".join(["softmax", *ELEMENTWISE])
        raise ModelFormatError(f"it has the activation {name!r}, which is not known. Known are {known}")
    return replace(value, symbol=ELEMENTWISE[name](value.symbol), whole=False)
