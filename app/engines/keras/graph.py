"""A Keras network as a graph in MXNet's format that computes what TensorFlow does.

Where the two differ, TensorFlow's way is written out:

- ``same`` padding that cannot be split evenly (even windows, most strides of 2) has its odd line at the end;
- ``same`` average pooling excludes the padding from the average;
- a normalization has a scale (MXNet's default is a scale of 1).

Networks trained over Theano differ from TensorFlow's only in the position of ``same`` padding. Pictures have their
channels first internally, as MXNet computes them; the layers see the axes in Keras's order.

``tf.image.resize`` (TensorFlow 2, without antialiasing) computes each new line as a weighted sum of old lines: pixels
are squares, and line ``i`` of ``n`` has its middle at ``(i + 0.5) / n`` of the side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.keras.symbol import apply, operation, variable
from app.errors import ModelFormatError

Array = NDArray[Any]
LOWEST = -3.0e38
"""Padding value that never is the maximum; float32 ends at -3.4e38."""
MAX_NUMBERS = 2**28
"""Limit on the numbers that one layer may output per picture: 1 GiB. VGG's first layers output 3 million."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Value:
    """The output of a layer: MXNet's symbol, and the shape in Keras without the batch axis.

    ``turned`` means that the symbol has a picture's channels first, while Keras has them last. ``whole`` means that
    TensorFlow's tensor would be of integers.
    """

    symbol: Any
    shape: tuple[int, ...]
    turned: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Reject a value that exceeds memory.

        :raises ModelFormatError: if the value has too many numbers, or none.
        """
        if not 0 < math.prod(self.shape) <= MAX_NUMBERS:
            raise ModelFormatError(f"it would give {(None, *self.shape)}; at most {MAX_NUMBERS:,} numbers can be held")

    def plain(self) -> Any:
        """Return the symbol with its axes in Keras's order."""
        return apply("transpose", self.symbol, axes=TO_LAST) if self.turned else self.symbol

    def first(self) -> Any:
        """Return the symbol, with the channels first, of a picture whose channels are last in Keras."""
        return self.symbol if self.turned else apply("transpose", self.symbol, axes=TO_FIRST)

    def axis(self, number: int) -> int:
        """Translate the number of an axis in Keras, with the batch as 0, to the symbol's.

        :raises ModelFormatError: if there is no such axis, or it is the batch.
        """
        place = number + len(self.shape) + 1 if number < 0 else number
        if not 0 < place <= len(self.shape):
            raise ModelFormatError(f"it computes along the axis {number} of {(None, *self.shape)}")
        return TO_FIRST.index(place) if self.turned else place

    def size(self, number: int) -> int:
        """Return the length of an axis, numbered as in Keras."""
        self.axis(number)
        return self.shape[number if number < 0 else number - 1]


class Net:
    """The parameters of a graph under construction, and its global settings."""

    def __init__(self, keras_version: str, theano: bool = False, mxnet: bool = False) -> None:
        """Begin a graph.

        :param theano: whether the network was trained over Theano; neither this nor ``mxnet`` means TensorFlow.
        :param mxnet: whether the network was trained over MXNet.
        """
        self.keras_version = keras_version
        self.theano = theano
        self.mxnet = mxnet
        self.arrays: dict[str, NDArray[np.float32]] = {}

    def before(self, major: int, minor: int) -> bool:
        """Return whether the file was saved by an older Keras; a version that is not a number counts as old."""
        numbers = re.match(r"(\d+)\.(\d+)", self.keras_version)
        return numbers is None or (int(numbers[1]), int(numbers[2])) < (major, minor)

    def constant(self, values: Any) -> Any:
        """Return a symbol for an array of numbers."""
        array = np.ascontiguousarray(values, np.float32)
        name = f"net_constant{len(self.arrays)}"
        self.arrays[name] = array
        return variable(name, array.shape)

    def row(self, value: Value, values: Any) -> Any:
        """Return a symbol for numbers that are broadcast against a value, aligned at its last axis as in NumPy.

        :raises ModelFormatError: if the shapes do not match, or the numbers differ between pictures.
        """
        array = np.asarray(values, np.float32)
        rank = len(value.shape) + 1
        array = array.reshape([1] * (rank - array.ndim) + list(array.shape))
        fits = array.ndim == rank and array.shape[0] == 1
        if not fits or any(side not in (1, size) for side, size in zip(array.shape[1:], value.shape, strict=True)):
            raise ModelFormatError(f"numbers of the shape {np.shape(values)} do not fit {(None, *value.shape)}")
        return self.constant(array.transpose(TO_FIRST) if value.turned else array)


def multiply(net: Net, value: Value, factor: Any) -> Value:
    """Multiply by a number, or by numbers along the last axes."""
    if np.ndim(factor) == 0:
        return replace(value, symbol=value.symbol * float(factor))
    return replace(value, symbol=apply("broadcast_mul", value.symbol, net.row(value, factor)))


def add(net: Net, value: Value, term: Any) -> Value:
    """Add a number, or numbers along the last axes."""
    if np.ndim(term) == 0:
        return replace(value, symbol=value.symbol + float(term))
    return replace(value, symbol=apply("broadcast_add", value.symbol, net.row(value, term)))


def reshape(value: Value, shape: Sequence[int]) -> Value:
    """Reshape a value; the batch axis is unchanged.

    :raises ModelFormatError: if the new shape has another number of elements.
    """
    if int(np.prod(shape)) != int(np.prod(value.shape)):
        raise ModelFormatError(f"{(None, *value.shape)} cannot be laid out as {(None, *shape)}")
    return replace(value, symbol=apply("reshape", value.plain(), shape=(0, *shape)), shape=tuple(shape), turned=False)


def along(net: Net, value: Value, axis: int, matrix: Array) -> Value:
    """Multiply by a matrix (new size, size) along one axis."""
    plain, rank, place = value.plain(), len(value.shape) + 1, axis % (len(value.shape) + 1)
    swapped = plain if place == rank - 1 else apply("SwapAxis", plain, dim1=place, dim2=rank - 1)
    made = apply("dot", swapped, net.constant(matrix.T))
    symbol = made if place == rank - 1 else apply("SwapAxis", made, dim1=place, dim2=rank - 1)
    shape = tuple(len(matrix) if number == place else size for number, size in enumerate(value.shape, 1))
    return Value(symbol, shape)


def maps(value: Value, data_format: str) -> tuple[Any, tuple[int, int, int]]:
    """Return a picture's symbol with the channels first, and its channels, height and width.

    :raises ModelFormatError: if the value is not a picture.
    """
    if len(value.shape) != 3:
        raise ModelFormatError(f"it takes pictures, not {(None, *value.shape)}")
    if data_format == "channels_first":
        channels, height, width = value.shape
        return value.plain(), (channels, height, width)
    height, width, channels = value.shape
    return value.first(), (channels, height, width)


def of_maps(symbol: Any, shape: Sequence[int], data_format: str) -> Value:
    """Return the picture of a symbol with the channels first, of the shape (channels, height, width)."""
    channels, height, width = shape
    if height < 1 or width < 1:
        raise ModelFormatError(f"its input is too small: {height} x {width} would be left of it")
    if data_format == "channels_first":
        return Value(symbol, (channels, height, width))
    return Value(symbol, (height, width, channels), turned=True)


Sides = tuple[tuple[int, int], tuple[int, int]]
"""Padding lines before and after, vertically and horizontally."""


def pad(symbol: Any, sides: Sides, fill: float = 0.0) -> Any:
    """Pad a picture whose channels are first."""
    if not any(sides[0] + sides[1]):
        return symbol
    return apply("Pad", symbol, mode="constant", pad_width=(0, 0, 0, 0, *sides[0], *sides[1]), constant_value=fill)


def same(
    net: Net,
    size: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    theano: Callable[[int], int],
) -> Sides:
    """Return the lines of ``same`` padding.

    :param theano: the function that returns Theano's lines before a side for a window.
    """
    down, across = (_share(net, *numbers, theano) for numbers in zip(size, window, strides, dilation, strict=True))
    return down, across


def half(window: int) -> int:
    """Return Theano's padding of a convolution, ``half``."""
    return window // 2


def theano_pool(window: int) -> int:
    """Return the padding with which Keras calls Theano's pooling."""
    return window - 2 if window > 2 and window % 2 else window - 1


def _share(
    net: Net, side: int, window: int, stride: int, dilation: int, theano: Callable[[int], int]
) -> tuple[int, int]:
    """Return the lines of padding before and after a side.

    TensorFlow splits the padding; the odd line goes to the end, and in Keras-MXNet to the beginning.
    """
    places, reach = -(-side // stride), dilation * (window - 1) + 1
    total = max((places - 1) * stride + reach - side, 0)
    start = theano(reach) if net.theano else -(-total // 2) if net.mxnet else total // 2
    return start, max(total - start, 0)


def coverage(side: int, window: int, stride: int, start: int) -> list[int]:
    """Count the picture's lines under each position of a window, with ``start`` lines of padding before the picture."""
    starts = [place * stride - start for place in range(-(-side // stride))]
    return [min(start + window, side) - max(start, 0) for start in starts]


def check_arrays(arrays: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the shapes of a layer's arrays with the expected ones.

    :raises ModelFormatError: if they differ.
    """
    shapes = {role: array.shape for role, array in arrays.items() if role in expected}
    if shapes != dict(expected):
        raise ModelFormatError(
            f"it has weights of the shapes {list(shapes.values())}, not {[tuple(shape) for shape in expected.values()]}"
        )


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""Constants of Klambauer et al., 2017, arXiv:1706.02515."""


def relu(x: Any, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> Any:
    """Return ``x`` from the threshold to the largest value; below, ``negative_slope * (x - threshold)``."""
    above = apply("relu", x) if threshold == 0 else x * apply("_greater_scalar", x, scalar=float(threshold))
    if max_value is not None:
        above = apply("clip", above, a_min=0.0, a_max=float(max_value))
    if not negative_slope:
        return above
    return above - apply("relu", -1.0 * x + float(threshold)) * float(negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """Return ``x``, and ``alpha * (exp(x) - 1)`` below zero."""
    return apply("relu", x) + (apply("exp", -1.0 * apply("relu", -1.0 * x)) - 1.0) * float(alpha)


def softmax(value: Value, axis: int = -1) -> Value:
    """Return the softmax along an axis."""
    return replace(value, symbol=apply("softmax", value.symbol, axis=value.axis(axis)))


def softplus(x: Any) -> Any:
    """Return ``log(1 + exp(x))``, without overflow for large numbers."""
    return apply("relu", x) + apply("log", apply("exp", -1.0 * apply("abs", x)) + 1.0)


def gelu(x: Any, approximate: bool = False) -> Any:
    """Return ``x * Phi(x)`` with the normal distribution's Phi (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    if approximate:
        return x * (apply("tanh", (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1.0) * 0.5
    return x * (apply("erf", x / math.sqrt(2.0)) + 1.0) * 0.5


def hard_swish(x: Any) -> Any:
    """Return ``x * relu6(x + 3) / 6`` (Howard et al., 2019, arXiv:1905.02244)."""
    return x * relu(x + 3.0, 6.0) / 6.0


def selu(x: Any) -> Any:
    """Return ``elu`` with a scale that preserves mean and variance."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


def swish(x: Any) -> Any:
    """Return ``x * sigmoid(x)`` (Ramachandran et al., 2017, arXiv:1710.05941)."""
    return x * apply("sigmoid", x)


ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": lambda x: relu(x, 6.0),
    "leaky_relu": lambda x: relu(x, negative_slope=0.2),
    "elu": elu,
    "selu": selu,
    "sigmoid": operation("sigmoid"),
    "tanh": operation("tanh"),
    "exponential": operation("exp"),
    "softplus": softplus,
    "softsign": lambda x: x / (apply("abs", x) + 1.0),
    "hard_sigmoid": lambda x: apply("clip", x * 0.2 + 0.5, a_min=0.0, a_max=1.0),
    "hard_sigmoid of Keras 3": lambda x: relu(x + 3.0, 6.0) / 6.0,
    "hard_tanh": lambda x: apply("clip", x, a_min=-1.0, a_max=1.0),
    "tanh_shrink": lambda x: x - apply("tanh", x),
    "log_sigmoid": lambda x: softplus(x * -1.0) * -1.0,
    "celu": elu,
    "squareplus": lambda x: (x + apply("sqrt", x * x + 4.0)) * 0.5,
    "hard_swish": hard_swish,
    "hard_silu": hard_swish,
    "swish": swish,
    "silu": swish,
    "gelu": gelu,
    "mish": lambda x: x * apply("tanh", softplus(x)),
}


def activate(value: Value, name: Any) -> Value:
    """Apply an activation by the name that Keras saved.

    :raises ModelFormatError: if the name is unknown.
    """
    if name is None:
        return value
    if name in ("softmax", "softmax_v2"):
        return softmax(value)
    if name not in ELEMENTWISE:
        known = ", ".join(["softmax", *ELEMENTWISE])
        raise ModelFormatError(f"it has the activation {name!r}, which is not known. Known are {known}")
    return replace(value, symbol=ELEMENTWISE[name](value.symbol), whole=False)


METHODS = ("nearest", "bilinear", "bicubic", "area")
UNCHANGED = (*METHODS, "lanczos3", "lanczos5")
"""Methods that leave a side unchanged if its length does not change."""
MAX_LINES = 2**14
TABLE = 1024
"""Number of entries in TensorFlow's table of the cubic kernel between two lines."""
KEYS = -0.5
"""Parameter of TensorFlow's cubic kernel (Keys, 1981)."""


def resizing(old: int, new: int, method: str) -> NDArray[np.float32]:
    """Return the matrix (new, old) that resizes a side.

    :raises ModelFormatError: if the method is unknown, or the side too long.
    """
    if not 0 < new <= MAX_LINES:
        raise ModelFormatError(f"it resizes a side to {new:,} pixels; 1 to {MAX_LINES:,} can be computed")
    if old == new and method in UNCHANGED:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    places = np.arange(new)
    matrix = np.zeros((new, old), np.float64)
    if method == "nearest":
        lines = np.minimum(np.floor((places + 0.5).astype(np.float32) * np.float32(scale)).astype(int), old - 1)
        matrix[places, lines] = 1
    elif method in ("bilinear", "bilinear of TensorFlow 1"):
        middle = (places + 0.5) * scale - 0.5 if method == "bilinear" else places * scale
        before = np.floor(middle).astype(int)
        part = middle - before
        np.add.at(matrix, (places, np.clip(before, 0, old - 1)), 1 - part)
        np.add.at(matrix, (places, np.clip(before + 1, 0, old - 1)), part)
    elif method == "bicubic":
        middle = (places + 0.5) * scale - 0.5
        before = np.floor(middle).astype(int)
        part = np.rint((middle - before) * TABLE) / TABLE
        for step in range(-1, 3):
            lines = before + step
            inside = (lines >= 0) & (lines < old)
            matrix[places[inside], lines[inside]] = _cubic(np.abs(part - step))[inside]
        matrix /= matrix.sum(axis=1, keepdims=True)  # TensorFlow ignores lines beyond the side
    elif method == "area":
        for place in range(new):
            begin, end = place * scale, (place + 1) * scale
            lines = np.arange(old)
            matrix[place] = np.clip(np.minimum(lines + 1, end) - np.maximum(lines, begin), 0, None) / scale
    else:
        raise ModelFormatError(f"it resizes by {method!r}; known are {', '.join(METHODS)}")
    return matrix.astype(np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = ((KEYS + 2) * distance - (KEYS + 3)) * distance**2 + 1
    far = ((KEYS * distance - 5 * KEYS) * distance + 8 * KEYS) * distance - 4 * KEYS
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
