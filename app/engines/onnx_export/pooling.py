"""MXNet's pooling and resizing of maps.

By the convention ``full`` the last window may extend beyond the padding. MXNet's averages do not count the cells
there, while ONNX counts all cells of the padding or none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.engines.onnx_export.layers import check_maps, check_sizes
from app.engines.onnx_export.operators import Call, Result, operator
from app.engines.onnx_export.writer import Tensor, Writer

LOWEST = float(np.finfo(np.float32).min)
"""Padding that never is the maximum; also MXNet's maximum of no cells at all."""


@dataclass(frozen=True)
class _Side:
    """The window along one side of the maps. The last of its places is beyond the padding by ``more`` cells."""

    size: int
    kernel: int
    stride: int
    pad: int
    places: int

    @property
    def more(self) -> int:
        return max((self.places - 1) * self.stride + self.kernel - self.size - 2 * self.pad, 0)

    def counts(self, with_padding: bool) -> NDArray[np.float64]:
        """Return the number of cells under each place of the window, those of the padding counted or not."""
        starts = np.arange(self.places) * self.stride - self.pad
        before, behind = (-self.pad, self.size + self.pad) if with_padding else (0, self.size)
        counts: NDArray[np.float64] = np.minimum(starts + self.kernel, behind) - np.maximum(starts, before).astype(
            np.float64
        )
        return counts


@operator("Pooling Pooling_v1")
def _pooling(call: Call) -> Result:
    kind = call.check_option("pool_type", "max", "avg", "sum", "lp")
    if call.node.flag("global_pool"):
        check_maps(call, len(call.x.shape) - 2)
        return _pool(call, kind, None)
    kernel = call.node.numbers("kernel", ())
    rank = len(kernel)
    check_maps(call, rank)
    is_full = call.check_option("pooling_convention", "valid", "full") == "full"
    strides, pads = call.sides("stride", 1, rank), call.sides("pad", 0, rank)
    sides = []
    for size, window, stride, pad in zip(call.x.shape[2:], kernel, strides, pads, strict=True):
        spare = size + 2 * pad - window
        check_sizes([spare + 1], call.x)
        steps = -(-spare // stride) if is_full else spare // stride
        sides.append(_Side(size, window, stride, pad, steps + 1))
    return _pool(call, kind, sides)


def _pool(call: Call, kind: str, sides: list[_Side] | None) -> Tensor:
    """Pool windows, or whole maps if there are no sides."""
    graph, x = call.graph, call.x
    if kind == "max":
        return _maxima(call, sides)
    if kind == "avg":
        return _averages(call, x, sides)
    if kind == "sum":
        return _sums(call, x, sides)
    power = call.node.number("p_value", 0)
    if power == 1:
        return _sums(call, x, sides)
    if power == 2:
        return graph.unary("Sqrt", _sums(call, graph.binary("Mul", x, x), sides))
    raise call.refusal(f"with p_value={call.node.text('p_value', 'None')}")


def _maxima(call: Call, sides: list[_Side] | None) -> Tensor:
    graph, x = call.graph, call.x
    if sides is None:
        return graph.write("GlobalMaxPool", [x], _of_whole_maps(x))
    if call.node.op == "Pooling_v1":  # zeros are part of its windows
        x = graph.pad(x, [(0, 0), (0, 0), *((side.pad, side.pad) for side in sides)])
        sides = [_Side(side.size + 2 * side.pad, side.kernel, side.stride, 0, side.places) for side in sides]
    if any(side.pad + side.more >= side.kernel for side in sides):  # ONNX allows no padding as large as the window
        x = graph.pad(x, [(0, 0), (0, 0), *((side.pad, side.pad + side.more) for side in sides)], fill=LOWEST)
        return graph.write("MaxPool", [x], _pooled(x, sides), **_windows(sides))
    return graph.write("MaxPool", [x], _pooled(x, sides), **_windows(sides), pads=_pads(sides))


def _averages(call: Call, x: Tensor, sides: list[_Side] | None) -> Tensor:
    graph = call.graph
    if sides is None:
        return graph.write("GlobalAveragePool", [x], _of_whole_maps(x))
    means = _means(graph, x, sides)
    with_padding = call.node.flag("count_include_pad", True)
    if call.node.op == "Pooling_v1" or not any(side.more if with_padding else side.pad + side.more for side in sides):
        return means
    shares = np.ones(())
    for side in sides:
        shares = np.multiply.outer(shares, side.kernel / side.counts(with_padding))
    return graph.binary("Mul", means, graph.constant(shares))


def _sums(call: Call, x: Tensor, sides: list[_Side] | None) -> Tensor:
    if sides is None:
        return call.graph.reduce("ReduceSum", x, range(2, len(x.shape)))
    means = _means(call.graph, x, sides)
    return call.graph.binary("Mul", means, float(math.prod(side.kernel for side in sides)))


def _means(graph: Writer, x: Tensor, sides: list[_Side]) -> Tensor:
    """Write the sums of all windows, divided by the windows' size."""
    x = graph.pad(x, [(0, 0), (0, 0), *((side.pad, side.pad + side.more) for side in sides)])
    return graph.write("AveragePool", [x], _pooled(x, sides), **_windows(sides))


def _of_whole_maps(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))


def _pooled(x: Tensor, sides: list[_Side]) -> tuple[int, ...]:
    return (*x.shape[:2], *(side.places for side in sides))


def _windows(sides: list[_Side]) -> dict[str, list[int]]:
    return {"kernel_shape": [side.kernel for side in sides], "strides": [side.stride for side in sides]}


def _pads(sides: list[_Side]) -> list[int]:
    return [*(side.pad for side in sides), *(side.pad + side.more for side in sides)]


@operator("_contrib_AdaptiveAvgPooling2D")
def _adaptive(call: Call) -> Result:
    """Write averages of parts of equal size; parts overlap if the size is not divisible."""
    check_maps(call, 2)
    target = call.node.numbers("output_size", (1,))
    x = call.x
    for axis, wished in ((2, target[0]), (3, target[-1])):
        size = x.shape[axis]
        matrix = np.zeros((wished, size))
        for number in range(wished):
            part = slice(number * size // wished, -(-(number + 1) * size // wished))
            matrix[number, part] = 1 / (part.stop - part.start)
        x = call.graph.multiply_along(x, axis, matrix)
    return x


@operator("_contrib_BilinearResize2D")
def _resize(call: Call) -> Result:
    """Write a bilinear interpolation, by default of pictures whose corners stay in place."""
    check_maps(call, 2)
    call.check_option("mode", "size", "scale")
    x = call.x
    for axis, key in ((2, "height"), (3, "width")):
        size, scale = x.shape[axis], call.node.real(f"scale_{key}", 0.0)
        wished = int(size * scale) if scale else call.node.number(key, 1)
        if call.node.flag("align_corners", True):
            places = np.arange(wished) * ((size - 1) / (wished - 1) if wished > 1 else 0.0)
        else:
            places = np.maximum((np.arange(wished) + 0.5) * size / wished - 0.5, 0)
        before = np.floor(places).astype(int)
        matrix = np.zeros((wished, size))
        np.add.at(matrix, (np.arange(wished), before), 1 - (places - before))
        np.add.at(matrix, (np.arange(wished), np.minimum(before + 1, size - 1)), places - before)
        x = call.graph.multiply_along(x, axis, matrix)
    return x


@operator("UpSampling")
def _up_sampling(call: Call) -> Result:
    check_maps(call, 2)
    scale = call.node.number("scale", 1)
    if call.check_option("sample_type", "nearest", "bilinear") == "bilinear":
        return _interpolated(call, scale)
    sizes = [side * scale for side in call.x.shape[2:]]
    parts = [_repeated(call.graph, x, sizes) for x in call.inputs]
    if call.check_option("multi_input_mode", "concat", "sum") == "concat":
        return call.graph.concat(parts, 1)
    total = parts[0]
    for part in parts[1:]:
        total = call.graph.binary("Add", total, part)
    return total


def _repeated(graph: Writer, x: Tensor, sizes: list[int]) -> Tensor:
    """Repeat every pixel as often as the new sizes hold the old ones."""
    if any(size % side for size, side in zip(sizes, x.shape[2:], strict=True)):
        raise ValueError(f"{x.shape} cannot be enlarged to {tuple(sizes)}")
    down, across = (size // side for size, side in zip(sizes, x.shape[2:], strict=True))
    scales = graph.constant(np.array([1, 1, down, across], np.float32))
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    none = graph.constant(np.zeros(0, np.float32))
    return graph.write("Resize", [x, none, scales], (*x.shape[:2], *sizes), **options)


def _interpolated(call: Call, scale: int) -> Tensor:
    """Write the transposed convolution, channel by channel, with which MXNet interpolates."""
    channels, kernel = call.x.shape[1], 2 * scale - scale % 2
    call.check_shape(call.input(1), (channels, 1, kernel, kernel))
    pad = scale // 2
    shape = (call.x.shape[0], channels, *(side * scale for side in call.x.shape[2:]))
    options = {"kernel_shape": [kernel] * 2, "strides": [scale] * 2, "pads": [pad] * 4, "group": channels}
    return call.graph.write("ConvTranspose", [call.x, call.input(1)], shape, **options)
