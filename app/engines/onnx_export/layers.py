"""MXNet's convolutions, fully connected layer, products of matrices, normalizations and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.engines.onnx_export.operators import Call, Result, features, operator
from app.engines.onnx_export.writer import Shape, Tensor, Writer


def check_maps(call: Call, rank: int) -> None:
    """Check that the input has maps with so many sides, channels first.

    :raises ModelFormatError: if the layout is another.
    :raises ValueError: if the input has other axes.
    """
    layout = call.node.text("layout", "None")
    if layout not in ("None", "NCW", "NCHW", "NCDHW"):
        raise call.refusal(f"with layout={layout!r}")
    if not 1 <= rank <= 3 or len(call.x.shape) != rank + 2:
        raise ValueError(f"it takes maps with {rank} sides, not {call.x.shape}")


def check_sizes(sizes: list[int], x: Tensor) -> None:
    """Check that a window fits into its maps.

    :raises ValueError: if it does not.
    """
    if min(sizes) < 1:
        raise ValueError(f"its window is larger than the maps {x.shape[2:]} that it is moved over")


def _bias(call: Call, filters: int, default: bool) -> list[Tensor]:
    """Return the bias, if the operation has one.

    :param default: whether it has none by default.
    """
    if call.node.flag("no_bias", default):
        return []
    bias = call.input(2)
    call.check_shape(bias, (filters,))
    return [bias]


@operator("Convolution Convolution_v1")
def _convolution(call: Call) -> Result:
    kernel = call.node.numbers("kernel", ())
    rank = len(kernel)
    check_maps(call, rank)
    strides, dilations, pads = (
        call.sides(key, default, rank) for key, default in (("stride", 1), ("dilate", 1), ("pad", 0))
    )
    filters, groups = call.node.number("num_filter", 0), call.node.number("num_group", 1)
    call.check_shape(call.input(1), (filters, call.x.shape[1] // groups, *kernel))
    sizes = [
        (side + 2 * pad - dilation * (size - 1) - 1) // stride + 1
        for side, size, stride, pad, dilation in zip(call.x.shape[2:], kernel, strides, pads, dilations, strict=True)
    ]
    check_sizes(sizes, call.x)
    return call.graph.write(
        "Conv",
        [call.x, call.input(1), *_bias(call, filters, False)],
        (call.x.shape[0], filters, *sizes),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=(*pads, *pads),
        group=groups,
    )


@operator("Deconvolution")
def _deconvolution(call: Call) -> Result:
    kernel = call.node.numbers("kernel", ())
    rank = len(kernel)
    check_maps(call, rank)
    strides, dilations = call.sides("stride", 1, rank), call.sides("dilate", 1, rank)
    filters, groups = call.node.number("num_filter", 0), call.node.number("num_group", 1)
    call.check_shape(call.input(1), (call.x.shape[1], filters // groups, *kernel))
    whole = [
        stride * (side - 1) + dilation * (size - 1) + 1
        for side, size, stride, dilation in zip(call.x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    pads, more = _margins(call, whole)
    sizes = [size - 2 * pad + extra for size, pad, extra in zip(whole, pads, more, strict=True)]
    check_sizes(sizes, call.x)
    return call.graph.write(
        "ConvTranspose",
        [call.x, call.input(1), *_bias(call, filters, True)],
        (call.x.shape[0], filters, *sizes),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=(*pads, *pads),
        output_padding=more,
        group=groups,
    )


def _margins(call: Call, whole: list[int]) -> tuple[Shape, Shape]:
    """Return what a transposed convolution cuts off at both ends of each side, and adds at the end.

    :param whole: the sides that the kernel reaches.
    """
    rank = len(whole)
    target = call.node.numbers("target_shape", ())
    if not any(target):
        return call.sides("pad", 0, rank), call.sides("adj", 0, rank)
    spare = [size - wished for size, wished in zip(whole, call.sides("target_shape", 0, rank), strict=True)]
    if min(spare) < 0:
        raise ValueError(f"its target_shape {target} is larger than {tuple(whole)}")
    return tuple((size + 1) // 2 for size in spare), tuple(size % 2 for size in spare)


@operator("FullyConnected")
def _fully_connected(call: Call) -> Result:
    graph, hidden = call.graph, call.node.number("num_hidden", 0)
    x = graph.reshape(call.x, features(call.x)) if call.node.flag("flatten", True) else call.x
    weight = call.input(1)
    call.check_shape(weight, (hidden, x.shape[-1]))
    bias = _bias(call, hidden, False)
    shape = (*x.shape[:-1], hidden)
    if len(x.shape) == 2:
        return graph.write("Gemm", [x, weight, *bias], shape, transB=1)
    product = graph.write("MatMul", [x, graph.transpose(weight, (1, 0))], shape)
    return graph.binary("Add", product, bias[0]) if bias else product


@operator("dot")
def _dot(call: Call) -> Result:
    """Write the sum over the last axis of the first array and the first axis of the second."""
    graph = call.graph
    turned = []
    for tensor, key in ((call.x, "transpose_a"), (call.input(1), "transpose_b")):
        if call.node.flag(key) and len(tensor.shape) != 2:
            raise call.refusal(f"with {key} of {tensor.shape}")
        turned.append(graph.transpose(tensor, (1, 0)) if call.node.flag(key) else tensor)
    left, right = turned
    matrix = graph.reshape(right, features(right))
    if left.shape[-1] != matrix.shape[0]:
        raise ValueError(f"{left.shape} and {right.shape} cannot be multiplied")
    product = graph.write("MatMul", [left, matrix], (*left.shape[:-1], matrix.shape[1]))
    return graph.reshape(product, (*left.shape[:-1], *right.shape[1:]) or (1,))


@operator("batch_dot linalg_gemm2 _linalg_gemm2")
def _batch_dot(call: Call) -> Result:
    graph = call.graph
    call.check_option("axis", "-2", "None")
    left, right = (
        graph.swap(tensor, -1, -2) if call.node.flag(key) else tensor
        for tensor, key in ((call.x, "transpose_a"), (call.input(1), "transpose_b"))
    )
    if left.shape[:-2] != right.shape[:-2] or left.shape[-1] != right.shape[-2]:
        raise ValueError(f"{left.shape} and {right.shape} cannot be multiplied")
    product = graph.write("MatMul", [left, right], (*left.shape[:-1], right.shape[-1]))
    alpha = call.node.real("alpha", 1.0)
    return product if alpha == 1 else graph.binary("Mul", product, alpha)


@operator("BatchNorm BatchNorm_v1 CuDNNBatchNorm _contrib_SyncBatchNorm")
def _batch_normalization(call: Call) -> Result:
    """Write a normalization by the statistics of training, whatever ``use_global_stats`` says.

    With ``fix_gamma``, which is the default, the scale is 1 whatever its parameter says.
    """
    graph, axis = call.graph, call.axis("axis", 1)
    arrays = [call.input(number) for number in range(1, 5)]
    for tensor in arrays:
        call.check_shape(tensor, (call.x.shape[axis],))
    if call.node.flag("fix_gamma", True):
        arrays[0] = graph.constant(np.ones(arrays[0].shape))
    turned = graph.swap(call.x, 1, axis) if axis != 1 else call.x
    epsilon = call.node.real("eps", 1e-3)
    normalized = graph.write("BatchNormalization", [turned, *arrays], turned.shape, epsilon=epsilon)
    return graph.swap(normalized, 1, axis) if axis != 1 else normalized


@operator("_contrib_BatchNormWithReLU")
def _batch_normalization_and_relu(call: Call) -> Result:
    normalized = _batch_normalization(call)
    assert isinstance(normalized, Tensor)
    return call.graph.unary("Relu", normalized)


@operator("InstanceNorm")
def _instance_normalization(call: Call) -> Result:
    for number in (1, 2):
        call.check_shape(call.input(number), (call.x.shape[1],))
    scale, shift = (_along(call, call.input(number), 1) for number in (1, 2))
    axes = range(2, len(call.x.shape))
    return _scaled(call.graph, _standardized(call.graph, call.x, axes, call.node.real("eps", 1e-3)), scale, shift)


@operator("LayerNorm")
def _layer_normalization(call: Call) -> Result:
    axis = call.axis("axis", -1)
    for number in (1, 2):
        call.check_shape(call.input(number), (call.x.shape[axis],))
    scale, shift = (_along(call, call.input(number), axis) for number in (1, 2))
    return _scaled(call.graph, _standardized(call.graph, call.x, [axis], call.node.real("eps", 1e-5)), scale, shift)


@operator("GroupNorm")
def _group_normalization(call: Call) -> Result:
    graph, x, groups = call.graph, call.x, call.node.number("num_groups", 1)
    if x.shape[1] % groups:
        raise ValueError(f"its {x.shape[1]} channels cannot be divided into {groups} groups")
    grouped = graph.reshape(x, (x.shape[0], groups, -(-x.shape[1] // groups), *x.shape[2:]))
    axes = range(2, len(grouped.shape))
    normalized = _standardized(graph, grouped, axes, call.node.real("eps", 1e-5))
    scale, shift = call.input(1), call.input(2)
    for tensor in (scale, shift):
        call.check_shape(tensor, (groups,), (x.shape[1],))
    if scale.shape == (groups,):  # MXNet 1.x has one number for each group
        sides = (1, groups, *(1 for _ in axes))
        scaled = _scaled(graph, normalized, graph.reshape(scale, sides), graph.reshape(shift, sides))
        return graph.reshape(scaled, x.shape)
    return _scaled(graph, graph.reshape(normalized, x.shape), _along(call, scale, 1), _along(call, shift, 1))


def _along(call: Call, row: Tensor, axis: int) -> Tensor:
    """Return a row of numbers, to be broadcast along an axis of the first input."""
    return call.graph.reshape(row, [size if place == axis else 1 for place, size in enumerate(call.x.shape)])


def _standardized(graph: Writer, x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    centred = graph.binary("Sub", x, graph.reduce("ReduceMean", x, list(axes)))
    variance = graph.reduce("ReduceMean", graph.binary("Mul", centred, centred), list(axes))
    return graph.binary("Div", centred, graph.unary("Sqrt", graph.binary("Add", variance, epsilon)))


def _scaled(graph: Writer, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return graph.binary("Add", graph.binary("Mul", x, scale), shift)


@operator("L2Normalization")
def _normalize_length(call: Call) -> Result:
    graph, rank = call.graph, len(call.x.shape)
    mode = call.check_option("mode", "instance", "channel", "spatial")
    axes = {"instance": range(1, rank), "channel": (1,), "spatial": range(2, rank)}[mode]
    squares = graph.reduce("ReduceSum", graph.binary("Mul", call.x, call.x), list(axes))
    return graph.binary("Div", call.x, graph.unary("Sqrt", graph.binary("Add", squares, call.node.real("eps", 1e-10))))


@operator("LRN")
def _response_normalization(call: Call) -> Result:
    return call.graph.unary(
        "LRN",
        call.x,
        alpha=call.node.real("alpha", 1e-4),
        beta=call.node.real("beta", 0.75),
        bias=call.node.real("knorm", 2.0),
        size=call.node.number("nsize", 5),
    )


@operator("softmax log_softmax softmin")
def _softmax(call: Call) -> Result:
    if call.node.flag("use_length"):
        raise call.refusal("with use_length")
    graph, x, axis = call.graph, call.x, call.axis("axis", -1)
    temperature = call.node.real("temperature", 1.0)
    if call.node.op == "softmin":
        x = graph.unary("Neg", x)
    if temperature != 1:
        x = graph.binary("Div", x, temperature)
    return graph.unary("LogSoftmax" if call.node.op == "log_softmax" else "Softmax", x, axis=axis)


@operator("SoftmaxActivation")
def _softmax_activation(call: Call) -> Result:
    mode = call.check_option("mode", "instance", "channel")
    return call.graph.unary("Softmax", call.x, axis=1 if mode == "channel" else -1)


@operator("SoftmaxOutput Softmax")
def _softmax_output(call: Call) -> Result:
    """Write a softmax; of maps it is over the last axis, whatever MXNet's documentation says of whole rows."""
    return call.graph.unary("Softmax", call.x, axis=1 if call.node.flag("multi_output") else -1)
