"""Layers and activations of newer Kerases, built of what Keras-MXNet has. Imported only where Keras is."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import backend
from keras.engine.base_layer import Layer
from keras.layers import GlobalAveragePooling2D, GlobalMaxPooling2D

SMALLEST = 1e-7
"""What Keras divides by at least (``epsilon``)."""


class Rescaling(Layer):  # type: ignore[misc]
    """``x * scale + offset``; either may be a number or a row of one number for each channel."""

    def __init__(self, scale: Any = 1.0, offset: Any = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        rank = backend.ndim(inputs)
        return inputs * _constant(self.scale, rank) + _constant(self.offset, rank)


class Normalization(Layer):  # type: ignore[misc]
    """``(x - mean) / sqrt(variance)`` along the last axis, or the axis that is named.

    Mean and variance are in the layer's options, or among the weights.
    """

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **options: Any):
        super().__init__(**options)
        if invert:
            raise ValueError("a Normalization that inverts is not known")
        self.axis = axis[0] if isinstance(axis, list | tuple) and axis else axis
        self.mean, self.variance = mean, variance

    def build(self, input_shape: tuple[int, ...]) -> None:
        if self.mean is None:
            count = (input_shape[self.axis],) if self.axis not in (None, []) else (1,)
            self.mean = self.add_weight(name="mean", shape=count, initializer="zeros", trainable=False)
            self.variance = self.add_weight(name="variance", shape=count, initializer="ones", trainable=False)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        rank = backend.ndim(inputs)
        mean, variance = (self._row(one, rank) for one in (self.mean, self.variance))
        return (inputs - mean) / backend.maximum(backend.sqrt(variance), SMALLEST)

    def _row(self, values: Any, rank: int) -> Any:
        shape = [1] * rank
        if self.axis not in (None, []):
            shape[self.axis] = -1
        if hasattr(values, "symbol"):
            return backend.reshape(values, tuple(shape))
        return backend.variable(np.asarray(values, np.float32).reshape(shape))


class GlobalAveragePooling2DKeepdims(GlobalAveragePooling2D):  # type: ignore[misc]
    """``GlobalAveragePooling2D(keepdims=True)``."""

    def call(self, inputs: Any) -> Any:
        return backend.mean(inputs, axis=_places(self.data_format), keepdims=True)

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return _pooled(shape, self.data_format)


class GlobalMaxPooling2DKeepdims(GlobalMaxPooling2D):  # type: ignore[misc]
    """``GlobalMaxPooling2D(keepdims=True)``."""

    def call(self, inputs: Any) -> Any:
        return backend.max(inputs, axis=_places(self.data_format), keepdims=True)

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return _pooled(shape, self.data_format)


def swish(x: Any) -> Any:
    """``x * sigmoid(x)`` (Ramachandran et al., 2017, arXiv:1710.05941)."""
    return x * backend.sigmoid(x)


def gelu(x: Any) -> Any:
    """``x * Phi(x)`` with the normal distribution's Phi (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    from app.engines.keras_tensorflow import call

    return x * (call(backend, [x], "erf", (x / np.sqrt(2.0)).symbol) + 1.0) * 0.5


def relu6(x: Any) -> Any:
    """``min(max(x, 0), 6)``."""
    return backend.relu(x, max_value=6.0)


def hard_swish(x: Any) -> Any:
    """``x * relu6(x + 3) / 6`` (Howard et al., 2019, arXiv:1905.02244)."""
    return x * relu6(x + 3.0) / 6.0


def mish(x: Any) -> Any:
    """``x * tanh(softplus(x))`` (Misra, 2019, arXiv:1908.08681)."""
    return x * backend.tanh(backend.softplus(x))


LAYERS = {
    kind.__name__: kind
    for kind in (Rescaling, Normalization, GlobalAveragePooling2DKeepdims, GlobalMaxPooling2DKeepdims)
}
ACTIVATIONS = {
    "swish": swish,
    "silu": swish,
    "gelu": gelu,
    "relu6": relu6,
    "hard_swish": hard_swish,
    "hard_silu": hard_swish,
    "mish": mish,
}


def _constant(values: Any, rank: int) -> Any:
    if isinstance(values, int | float):
        return float(values)
    row = np.asarray(values, np.float32)
    return backend.variable(row.reshape([1] * (rank - row.ndim) + list(row.shape)))


def _places(data_format: str) -> list[int]:
    return [1, 2] if data_format == "channels_last" else [2, 3]


def _pooled(shape: tuple[int, ...], data_format: str) -> tuple[int, ...]:
    return (shape[0], 1, 1, shape[3]) if data_format == "channels_last" else (shape[0], shape[1], 1, 1)
