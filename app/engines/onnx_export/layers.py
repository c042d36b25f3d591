"""MXNet's convolutions, its fully connected layer and its products of matrices."""

from __future__ import annotations

from app.engines.onnx_export.operators import Call, Result, features, operator
from app.engines.onnx_export.writer import Shape, Tensor


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
