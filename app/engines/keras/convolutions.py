"""Keras's convolutions and pooling over pictures, as MXNet operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from app.engines.keras.graph import (
    LOWEST,
    Array,
    Net,
    Value,
    check_arrays,
    coverage,
    half,
    maps,
    of_maps,
    pad,
    reshape,
    same,
    theano_pool,
)
from app.engines.keras.layers import Layer, apply_activation, bias_shape, kind
from app.engines.keras.symbol import apply
from app.errors import ModelFormatError

_CONVOLUTION = "kernel_size strides padding data_format dilation_rate activation use_bias"


@dataclass(frozen=True)
class _Windows:
    """The movement of a window over a picture."""

    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: str


def _windows(layer: Layer) -> _Windows:
    return _Windows(layer.pair("strides"), layer.pair("dilation_rate"), layer.padding)


def _convolve(
    net: Net, symbol: Any, size: tuple[int, int, int], kernel: Array, bias: Array | None, windows: _Windows, groups: int
) -> tuple[Any, tuple[int, int, int]]:
    """Convolve a picture (channels, height, width) with a kernel (out, in / groups, height, width)."""
    window, strides, dilation = kernel.shape[2:], windows.strides, windows.dilation
    sides = ((0, 0), (0, 0))
    if windows.padding == "same":
        sides = same(net, size[1:], window, strides, dilation, half)
    made = apply(
        "Convolution",
        pad(symbol, sides),
        net.constant(kernel),
        *([] if bias is None else [net.constant(bias)]),
        kernel=window,
        stride=strides,
        dilate=dilation,
        num_filter=len(kernel),
        num_group=groups,
        no_bias=bias is None,
    )
    down, across = (
        (side + sum(lines) - step * (reach - 1) - 1) // stride + 1
        for side, lines, reach, stride, step in zip(size[1:], sides, window, strides, dilation, strict=True)
    )
    return made, (len(kernel), down, across)


@kind("Conv2D", f"filters groups {_CONVOLUTION}")
def _conv2d(layer: Layer, x: Value) -> Value:
    symbol, size = maps(x, layer.data_format)
    groups, filters = int(layer.options.get("groups") or 1), int(layer.options["filters"])
    window = layer.pair("kernel_size")
    check_arrays(layer.arrays, {"kernel": (*window, size[0] // groups, filters), **bias_shape(layer, filters)})
    kernel = layer.arrays["kernel"].transpose(3, 2, 0, 1)
    made, shape = _convolve(layer.net, symbol, size, kernel, layer.arrays.get("bias"), _windows(layer), groups)
    return apply_activation(layer, of_maps(made, shape, layer.data_format))


def _by_depth(layer: Layer, symbol: Any, size: tuple[int, int, int], bias: Array | None) -> Any:
    kernel = layer.arrays["depthwise_kernel"]  # (height, width, in, filters per input channel)
    filters = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
    return _convolve(layer.net, symbol, size, filters, bias, _windows(layer), size[0])


@kind("DepthwiseConv2D", f"depth_multiplier {_CONVOLUTION}", groups=(1,), filters=(None,))
def _depthwise(layer: Layer, x: Value) -> Value:
    symbol, size = maps(x, layer.data_format)
    filters = int(layer.options.get("depth_multiplier") or 1)
    expected = {"depthwise_kernel": (*layer.pair("kernel_size"), size[0], filters)}
    check_arrays(layer.arrays, {**expected, **bias_shape(layer, size[0] * filters)})
    made, shape = _by_depth(layer, symbol, size, layer.arrays.get("bias"))
    return apply_activation(layer, of_maps(made, shape, layer.data_format))


@kind("SeparableConv2D", f"filters depth_multiplier {_CONVOLUTION}", groups=(1,))
def _separable(layer: Layer, x: Value) -> Value:
    symbol, size = maps(x, layer.data_format)
    each, filters = int(layer.options.get("depth_multiplier") or 1), int(layer.options["filters"])
    expected = {
        "depthwise_kernel": (*layer.pair("kernel_size"), size[0], each),
        "pointwise_kernel": (1, 1, size[0] * each, filters),
    }
    check_arrays(layer.arrays, {**expected, **bias_shape(layer, filters)})
    filtered, shape = _by_depth(layer, symbol, size, None)
    points = layer.arrays["pointwise_kernel"].transpose(3, 2, 0, 1)
    windows = _Windows((1, 1), (1, 1), "valid")
    made, shape = _convolve(layer.net, filtered, shape, points, layer.arrays.get("bias"), windows, 1)
    return apply_activation(layer, of_maps(made, shape, layer.data_format))


@kind("Conv2DTranspose", f"filters {_CONVOLUTION}", groups=(1,), output_padding=(None,))
def _transposed(layer: Layer, x: Value) -> Value:
    """Compute a transposed convolution.

    The kernel's full reach is computed; ``same`` padding then keeps the part that corresponds to a convolution's input.
    """
    symbol, size = maps(x, layer.data_format)
    filters, window, strides = int(layer.options["filters"]), layer.pair("kernel_size"), layer.pair("strides")
    if layer.pair("dilation_rate") != (1, 1):
        raise ModelFormatError("it is a Conv2DTranspose with a dilation_rate, which cannot be computed")
    if layer.net.theano:
        raise ModelFormatError("it is a Conv2DTranspose that was learned over Theano, which cannot be computed")
    check_arrays(layer.arrays, {"kernel": (*window, filters, size[0]), **bias_shape(layer, filters)})
    made = apply(
        "Deconvolution",
        symbol,
        layer.net.constant(layer.arrays["kernel"].transpose(3, 2, 0, 1)),
        kernel=window,
        stride=strides,
        num_filter=filters,
        no_bias=True,
    )
    behind, sides = [], []
    for axis, side, reach, stride in zip((2, 3), size[1:], window, strides, strict=True):
        whole = (side - 1) * stride + reach
        expected = side * stride + (max(reach - stride, 0) if layer.padding == "valid" else 0)
        if layer.net.mxnet and whole < expected:
            raise ModelFormatError("it is a Conv2DTranspose with strides beyond its kernel, which MXNet cannot compute")
        spare = max(whole - expected, 0)
        begin = -(-spare // 2) if layer.net.mxnet else spare // 2
        made = apply("slice_axis", made, axis=axis, begin=begin, end=min(begin + expected, whole))
        behind.append((0, max(expected - whole, 0)))
        sides.append(expected)
    made = pad(made, (behind[0], behind[1]))
    if "bias" in layer.arrays:
        made = apply("broadcast_add", made, layer.net.constant(layer.arrays["bias"].reshape(1, -1, 1, 1)))
    return apply_activation(layer, of_maps(made, (filters, *sides), layer.data_format))


def _pool(how: str, layer: Layer, x: Value) -> Value:
    symbol, size = maps(x, layer.data_format)
    window = layer.pair("pool_size", (2, 2))
    strides = layer.pair("strides", window)
    sides = ((0, 0), (0, 0))
    if layer.padding == "same":
        sides = same(layer.net, size[1:], window, strides, (1, 1), theano_pool)
        if layer.net.mxnet and any(
            sum(lines) % 2 and stride == 1 for lines, stride in zip(sides, strides, strict=True)
        ):
            raise ModelFormatError(f"it pools windows of {window} by steps of 1, which Keras-MXNet gives one step more")
        symbol = pad(symbol, sides, LOWEST if how == "max" else 0.0)
    made = apply("Pooling", symbol, kernel=window, stride=strides, pool_type=how, pooling_convention="valid")
    down, across = (
        (side + sum(lines) - reach) // stride + 1
        for side, lines, reach, stride in zip(size[1:], sides, window, strides, strict=True)
    )
    if how == "avg" and any(sides[0] + sides[1]) and not layer.net.mxnet:  # Keras-MXNet counts the padding
        rows, columns = (
            np.array(coverage(*numbers))
            for numbers in zip(size[1:], window, strides, (sides[0][0], sides[1][0]), strict=True)
        )
        shares = window[0] * window[1] / np.outer(rows, columns)
        made = apply("broadcast_mul", made, layer.net.constant(shares[np.newaxis, np.newaxis]))
    return of_maps(made, (size[0], down, across), layer.data_format)


def _global_pool(how: str, layer: Layer, x: Value) -> Value:
    symbol, size = maps(x, layer.data_format)
    made = apply("Pooling", symbol, kernel=(1, 1), global_pool=True, pool_type=how)
    pooled = of_maps(made, (size[0], 1, 1), layer.data_format)
    # in a picture of 1 x 1 the order of the axes does not matter
    return pooled if layer.options.get("keepdims") else reshape(replace(pooled, turned=False), (size[0],))


for _how, _long, _short in (("max", "MaxPooling2D", "MaxPool2D"), ("avg", "AveragePooling2D", "AvgPool2D")):
    kind(f"{_long} {_short}", "pool_size strides padding data_format")(partial(_pool, _how))
    kind(f"Global{_long} Global{_short}", "data_format keepdims")(partial(_global_pool, _how))
