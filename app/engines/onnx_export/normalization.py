"""MXNet's normalizations, and its softmax in all its forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.engines.onnx_export.operators import Call, Result, operator
from app.engines.onnx_export.writer import Tensor, Writer


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
