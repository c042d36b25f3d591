"""A network that Keras saved over TensorFlow or Theano, as a graph of MXNet's that computes what TensorFlow does.

Where the two differ, TensorFlow's way is written out:

- ``same`` padding that cannot be shared out evenly (even windows, most strides of 2) has its odd line behind;
- ``same`` average pooling leaves the padding out of the average;
- a normalization has a scale (MXNet takes it as 1 by default).

What was learned over Theano differs from TensorFlow only in where ``same`` padding goes. Pictures are kept with their
channels first inside, as MXNet computes them; the layers see the axes in the order that Keras gives them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mxnet as mx
import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError

Array = NDArray[Any]
LOWEST = -3.0e38
"""Padding that no maximum picks; float32 ends at -3.4e38."""
MAX_NUMBERS = 2**28
"""Numbers that one layer may give for one picture: 1 GiB. VGG's first layers give 3 million."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Value:
    """What a layer computes: MXNet's symbol, and the shape that Keras knows, without the batch.

    ``turned`` says that the symbol has the channels of a picture first, while Keras has them last. ``whole`` says that
    TensorFlow would hold whole numbers.
    """

    symbol: Any
    shape: tuple[int, ...]
    turned: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Refuse what no memory holds.

        :raises ModelFormatError: if it has too many numbers, or none.
        """
        if not 0 < math.prod(self.shape) <= MAX_NUMBERS:
            raise ModelFormatError(f"it would give {(None, *self.shape)}; at most {MAX_NUMBERS:,} numbers can be held")

    def plain(self) -> Any:
        """Return the symbol with its axes as Keras has them."""
        return mx.sym.transpose(self.symbol, axes=TO_LAST) if self.turned else self.symbol

    def first(self) -> Any:
        """Return the symbol of a picture whose channels Keras has last, with the channels first."""
        return self.symbol if self.turned else mx.sym.transpose(self.symbol, axes=TO_FIRST)

    def axis(self, number: int) -> int:
        """Translate the number of an axis as Keras counts, with the batch as 0, to the symbol's.

        :raises ModelFormatError: if there is no such axis, or it is the batch.
        """
        place = number + len(self.shape) + 1 if number < 0 else number
        if not 0 < place <= len(self.shape):
            raise ModelFormatError(f"it computes along the axis {number} of {(None, *self.shape)}")
        return TO_FIRST.index(place) if self.turned else place

    def size(self, number: int) -> int:
        """Return the length of an axis as Keras counts."""
        self.axis(number)
        return self.shape[number if number < 0 else number - 1]


class Net:
    """The parameters of a graph while it is built, and what holds for all of it."""

    def __init__(self, theano: bool, keras_version: str) -> None:
        self.theano = theano
        self.keras_version = keras_version
        self.arrays: dict[str, NDArray[np.float32]] = {}

    def before(self, major: int, minor: int) -> bool:
        """Say whether the file was saved by an older Keras; a version that is not a number is taken for old."""
        numbers = re.match(r"(\d+)\.(\d+)", self.keras_version)
        return numbers is None or (int(numbers[1]), int(numbers[2])) < (major, minor)

    def constant(self, values: Any) -> Any:
        """Return a symbol for an array of numbers."""
        array = np.ascontiguousarray(values, np.float32)
        name = f"net_constant{len(self.arrays)}"
        self.arrays[name] = array
        return mx.sym.Variable(name, shape=array.shape)

    def row(self, value: Value, values: Any) -> Any:
        """Return a symbol for numbers that are broadcast against a value, aligned at its last axis as NumPy does.

        :raises ModelFormatError: if they do not fit, or differ from picture to picture.
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
    return replace(value, symbol=mx.sym.broadcast_mul(value.symbol, net.row(value, factor)))


def add(net: Net, value: Value, term: Any) -> Value:
    """Add a number, or numbers along the last axes."""
    if np.ndim(term) == 0:
        return replace(value, symbol=value.symbol + float(term))
    return replace(value, symbol=mx.sym.broadcast_add(value.symbol, net.row(value, term)))


def reshape(value: Value, shape: Sequence[int]) -> Value:
    """Lay out numbers anew; the batch stays.

    :raises ModelFormatError: if the new shape has not as many numbers.
    """
    if int(np.prod(shape)) != int(np.prod(value.shape)):
        raise ModelFormatError(f"{(None, *value.shape)} cannot be laid out as {(None, *shape)}")
    return replace(value, symbol=mx.sym.reshape(value.plain(), shape=(0, *shape)), shape=tuple(shape), turned=False)


def along(net: Net, value: Value, axis: int, matrix: Array) -> Value:
    """Multiply by a matrix (new size, size) along one axis."""
    plain, rank, place = value.plain(), len(value.shape) + 1, axis % (len(value.shape) + 1)
    swapped = plain if place == rank - 1 else mx.sym.SwapAxis(plain, dim1=place, dim2=rank - 1)
    made = mx.sym.dot(swapped, net.constant(matrix.T))
    symbol = made if place == rank - 1 else mx.sym.SwapAxis(made, dim1=place, dim2=rank - 1)
    shape = tuple(len(matrix) if number == place else size for number, size in enumerate(value.shape, 1))
    return Value(symbol, shape)


def maps(value: Value, data_format: str) -> tuple[Any, tuple[int, int, int]]:
    """Return a picture's symbol with the channels first, and channels, height and width.

    :raises ModelFormatError: if it is no picture.
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
"""Lines before and behind, down and across."""


def pad(symbol: Any, sides: Sides, fill: float = 0.0) -> Any:
    """Pad a picture whose channels are first."""
    if not any(sides[0] + sides[1]):
        return symbol
    return mx.sym.Pad(symbol, mode="constant", pad_width=(0, 0, 0, 0, *sides[0], *sides[1]), constant_value=fill)


def same(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], theano: Any
) -> Sides:
    """Give the lines of ``same`` padding.

    :param theano: None, or the function that gives Theano's lines before a side for a window.
    """
    down, across = (_share(*numbers, theano) for numbers in zip(size, window, strides, dilation, strict=True))
    return down, across


def half(window: int) -> int:
    """Give Theano's padding of a convolution, ``half``."""
    return window // 2


def theano_pool(window: int) -> int:
    """Give the padding with which Keras calls Theano's pooling."""
    return window - 2 if window > 2 and window % 2 else window - 1


def _share(side: int, window: int, stride: int, dilation: int, before: Callable[[int], int] | None) -> tuple[int, int]:
    """Lines of padding before and behind a side. TensorFlow shares out what is needed; the odd line goes behind."""
    places, reach = -(-side // stride), dilation * (window - 1) + 1
    total = max((places - 1) * stride + reach - side, 0)
    start = before(reach) if before else total // 2
    return start, max(total - start, 0)


def covered(side: int, window: int, stride: int, start: int) -> list[int]:
    """Count the lines of the picture that each place of a window covers, with ``start`` lines of padding before it."""
    starts = [place * stride - start for place in range(-(-side // stride))]
    return [min(one + window, side) - max(one, 0) for one in starts]


def check_arrays(arrays: Mapping[str, Array], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Compare a layer's arrays with the shapes that it needs.

    :raises ModelFormatError: if they differ.
    """
    shapes = {role: array.shape for role, array in arrays.items() if role in wanted}
    if shapes != dict(wanted):
        raise ModelFormatError(
            f"it has weights of the shapes {list(shapes.values())}, not {[tuple(shape) for shape in wanted.values()]}"
        )
