"""Keras ``.h5`` files as networks in MXNet's format, read without Keras and MXNet.

The files that Keras-MXNet saved have peculiarities:

- kernels of layers whose channels are first have the axes of MXNet, not those of TensorFlow;
- normalizations have a scale and a shift even if their options say that they have none.

How Keras-MXNet computes differs, too: normalizations ignore their scale, ``same`` padding has its odd line at the
beginning and counts in averages, and enlarging repeats pixels whatever the interpolation. The layers see to that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import app.engines.keras.convolutions
import app.engines.keras.resampling
import app.engines.keras.sequences  # noqa: F401
from app.engines.base import Network
from app.engines.keras.graph import Array, Net, Value, reshape
from app.engines.keras.layers import check, compute_layer
from app.engines.keras.operations import compute_operation
from app.engines.keras.symbol import apply, document_of, variable
from app.errors import ModelFormatError
from app.formats.keras_file import H5Model, read_h5
from app.formats.keras_graph import INPUT, Call, Graph, Leaf, Tensor, is_operation, picture_shape, read_graph, replaced
from app.formats.keras_weights import assign_weights
from app.types import TensorSpec

FLOATS = ("float32", "float64", "float16", "bfloat16")


def read_network(
    path: Path, input_shape: tuple[int, ...] | None = None, output: str = ""
) -> tuple[Network, TensorSpec]:
    """Read an ``.h5`` or a ``.keras`` file as a network, saved by Keras 1.2 to 3 over any backend.

    :param input_shape: shape of the input with the batch axis, whose size is ignored; it provides the sizes that the
        file leaves open.
    :param output: the name of the output to use if there are several.
    :returns: the network, and the name of the output layer with the shape of the output, with the batch axis (0).
    :raises ModelFormatError: if the file cannot be read, or has a layer that is unknown, has an option that cannot be
        computed, or lacks its arrays.
    """
    file = read_h5(path)
    try:
        return build(file, input_shape, output)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path} cannot be served: {error}") from None


def build(file: H5Model, input_shape: tuple[int, ...] | None, output: str) -> tuple[Network, TensorSpec]:
    """Build a network, as :func:`read_network` does, of a file's contents."""
    if file.backend not in ("tensorflow", "", "mxnet"):
        raise ModelFormatError(
            f"it was saved over the backend {file.backend!r}; known are tensorflow, theano and mxnet"
        )
    graph = read_graph(with_all_weights(file.config) if file.backend == "mxnet" else file.config, output)
    for leaf in graph.root.leaves():
        with _naming_layer(leaf):
            if not is_operation(leaf) and leaf.class_name != "InputLayer":
                check(leaf.class_name, leaf.config)
    arrays = assign_weights(graph.root, file.groups)
    if file.backend == "mxnet":
        arrays = {leaf: turned(leaf, roles) for leaf, roles in arrays.items()}
    net = Net(file.keras_version, theano=file.theano, mxnet=file.backend == "mxnet")
    shape, values = compute_graph(net, graph, arrays, input_shape)
    answer = values[graph.output.call]
    document = document_of(apply("identity", answer.plain(), name="answer"))
    last = graph.calls[graph.output.call].leaf.name if graph.calls else graph.input_name
    return Network(document, net.arrays, graph.input_name, shape[1:]), TensorSpec(last, (0, *answer.shape))


def _input_shape(own: tuple[int, ...], requested: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the input's shape: the file's, with its open sizes taken from the requested shape."""
    shape = own
    if requested is not None and len(requested) == len(own):
        shape = (0, *(size or given for size, given in zip(own[1:], requested[1:], strict=True)))
    if min(shape[1:], default=0) < 1:
        raise ModelFormatError(
            f"its input is {own}, where 0 is any size; say which, by --input-size or in signature.json"
        )
    return shape


def compute_graph(
    net: Net, graph: Graph, arrays: Mapping[Leaf, Mapping[str, Array]], input_shape: tuple[int, ...] | None
) -> tuple[tuple[int, ...], dict[int, Value]]:
    """Compute every call of a graph.

    :param arrays: every layer's arrays by role, as TensorFlow's.
    :param input_shape: as in :func:`read_network`.
    :returns: the input's shape with the batch axis (0), and the results by the calls' places; -1 is the input.
    :raises ModelFormatError: if a layer cannot be computed.
    """
    shape = _input_shape(picture_shape(graph), input_shape)
    x = Value(variable(graph.input_name), shape[1:], whole=graph.input_dtype not in FLOATS)
    if len(graph.input_shape) == len(shape) - 1:  # grey pictures without an axis for their single channel
        x = reshape(x, shape[1:-1])
    values = {INPUT.call: x}

    def filled(argument: Any) -> Any:
        return replaced(argument, lambda item: values[item.call] if isinstance(item, Tensor) else item)

    for place, call in enumerate(graph.calls):
        with _naming_layer(call.leaf):
            values[place] = _call(net, call, filled(list(call.arguments)), filled(call.options), arrays)
    return shape, values


def _call(
    net: Net, call: Call, arguments: list[Any], options: dict[str, Any], arrays: Mapping[Leaf, Mapping[str, Array]]
) -> Value:
    leaf = call.leaf
    if is_operation(leaf):
        return compute_operation(net, leaf, arguments, options)
    if options or not all(isinstance(argument, Value) for argument in arguments):
        called = ", ".join(f"{key}={value!r}" for key, value in call.options.items()) or "a constant"
        raise ModelFormatError(f"it is called with {called}, which cannot be computed")
    return compute_layer(net, leaf.class_name, leaf.config, arrays.get(leaf, {}), *arguments)


@contextlib.contextmanager
def _naming_layer(leaf: Leaf) -> Iterator[None]:
    """Add the layer's name to an error's message."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"its layer {'/'.join((*leaf.models, leaf.name))}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ArithmeticError) as error:
        # the options come from JSON of any shape
        raise ModelFormatError(
            f"its layer {'/'.join((*leaf.models, leaf.name))} ({leaf.class_name}) is not described as Keras does: "
            f"{type(error).__name__}: {error}"
        ) from None


AXES: dict[tuple[str, str], tuple[int, ...]] = {
    ("Conv2D", "kernel"): (2, 3, 1, 0),
    ("Conv2DTranspose", "kernel"): (2, 3, 1, 0),
    ("DepthwiseConv2D", "depthwise_kernel"): (2, 3, 0, 1),
    ("SeparableConv2D", "depthwise_kernel"): (2, 3, 0, 1),
    ("SeparableConv2D", "pointwise_kernel"): (2, 3, 1, 0),
}
"""The order of axes that turns a kernel of a kind of layer and a role into TensorFlow's."""


def turned(leaf: Leaf, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return a layer's arrays with the axes of TensorFlow."""
    first = leaf.config.get("data_format") == "channels_first"
    return {
        role: array.transpose(AXES[leaf.class_name, role])
        if first and (leaf.class_name, role) in AXES and array.ndim == 4
        else array
        for role, array in arrays.items()
    }


def with_all_weights(node: Any) -> Any:
    """Return a model's description in which every normalization has a scale and a shift."""
    if isinstance(node, list):
        return [with_all_weights(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: with_all_weights(value) for key, value in node.items()}
    if made.get("class_name") == "BatchNormalization" and isinstance(made.get("config"), dict):
        made["config"] = {**made["config"], "scale": True, "center": True}
    return made
