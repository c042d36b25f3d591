"""``same`` padding of Keras over MXNet and Theano as explicit padding, which computes the same over TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.engines.keras.graph import Net, Sides, Value, half, same, theano_pool
from app.engines.keras.layers import IDENTITIES, Layer
from app.errors import ModelFormatError
from app.formats.keras_graph import Call, Graph, Leaf, Tensor, picture_shape, tensors_in

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
MAXIMA, AVERAGES = ("MaxPooling2D", "MaxPool2D"), ("AveragePooling2D", "AvgPool2D")
NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus", "exponential")
"""Activations without negative results."""
SIGN_KEPT = (*IDENTITIES, *MAXIMA, *AVERAGES, "ZeroPadding2D", "Concatenate", "Add")
"""Layers that make nothing negative of what is not."""


def explicit_padding(net: Net, graph: Graph, values: Mapping[int, Value]) -> dict[Leaf, Sides]:
    """Return the lines of padding of the layers that TensorFlow would pad at other sides.

    :param values: the results of the graph's calls by their places; -1 is the input.
    :raises ModelFormatError: if padding with zeros cannot express a layer's padding, or the padding depends on a size
        that the model leaves open.
    """
    found: dict[Leaf, Sides] = {}
    first: dict[Leaf, Sides] = {}
    for call in graph.calls:
        leaf = call.leaf
        if leaf.class_name not in (*CONVOLUTIONS, *MAXIMA, *AVERAGES) or leaf.config.get("padding") != "same":
            continue
        (source,) = tensors_in(call.arguments)
        sides = _sides(net, leaf, values[source.call])
        if first.setdefault(leaf, sides) != sides:
            raise _refused(leaf, "pads its inputs, which have several sizes")
        if sides == _sides(Net(net.keras_version), leaf, values[source.call]) and not _counted(net, leaf, sides):
            continue
        _check(net, graph, call, source)
        found[leaf] = sides
    return found


def _counted(net: Net, leaf: Leaf, sides: Sides) -> bool:
    """Return whether a layer counts its padding in averages, as only Keras-MXNet does."""
    return net.mxnet and leaf.class_name in AVERAGES and any(sides[0] + sides[1])


def _check(net: Net, graph: Graph, call: Call, source: Tensor) -> None:
    """Check that explicit padding gives the layer's results.

    :raises ModelFormatError: if it does not.
    """
    leaf = call.leaf
    if 0 in picture_shape(graph)[1:] and _layer(net, leaf).pair("strides", _window(leaf)[0]) != (1, 1):
        raise _refused(leaf, "pads by the size of the pictures, which the model leaves open,")
    if leaf.class_name in AVERAGES and not net.mxnet:
        raise _refused(leaf, "excludes its padding from averages, and pads")
    if leaf.class_name in MAXIMA and not _is_not_negative(graph, source):
        raise _refused(leaf, "takes the maximum of numbers that may be negative, and pads")


def _refused(leaf: Leaf, how: str) -> ModelFormatError:
    return ModelFormatError(
        f"its layer {'/'.join((*leaf.models, leaf.name))} {how} at other sides than Keras 3. Export it with --to onnx"
    )


def _layer(net: Net, leaf: Leaf) -> Layer:
    return Layer(net, leaf.config, {})


def _window(leaf: Leaf) -> tuple[tuple[int, int], Callable[[int], int]]:
    """Return a layer's default of the strides, and the function that returns Theano's lines before a side."""
    if leaf.class_name in CONVOLUTIONS:
        return (1, 1), half
    return Layer(Net(""), leaf.config, {}).pair("pool_size", (2, 2)), theano_pool


def _sides(net: Net, leaf: Leaf, value: Value) -> Sides:
    layer, (default, theano) = _layer(net, leaf), _window(leaf)
    window = layer.pair("kernel_size") if leaf.class_name in CONVOLUTIONS else default
    size = value.shape[1:] if layer.data_format == "channels_first" else value.shape[:2]
    return same(net, size, window, layer.pair("strides", default), layer.pair("dilation_rate"), theano)


def _is_not_negative(graph: Graph, tensor: Tensor) -> bool:
    """Return whether a tensor surely has no negative numbers."""
    if tensor.call < 0:
        return False  # the input
    call = graph.calls[tensor.call]
    leaf = call.leaf
    if leaf.config.get("activation") in NOT_NEGATIVE:
        return True
    if leaf.class_name == "ReLU":
        return not leaf.config.get("negative_slope")
    return leaf.class_name in SIGN_KEPT and all(_is_not_negative(graph, item) for item in tensors_in(call.arguments))
