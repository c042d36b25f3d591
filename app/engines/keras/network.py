"""Conversion of Keras ``.h5`` files that were saved over TensorFlow or Theano to an MXNet engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import mxnet as mx

import app.engines.keras.convolutions
import app.engines.keras.resampling
import app.engines.keras.sequences  # noqa: F401
from app.engines.keras.graph import Array, Net, Value, reshape
from app.engines.keras.layers import check, compute_layer
from app.engines.keras.operations import compute_operation
from app.engines.mxnet.engine import MxnetEngine
from app.errors import ModelFormatError
from app.formats.keras_graph import Call, Graph, Leaf, Tensor, is_operation
from app.formats.keras_h5 import H5Model, assign_weights
from app.types import TensorSpec

FLOATS = ("float32", "float64", "float16", "bfloat16")


def build(file: H5Model, graph: Graph, input_shape: tuple[int, ...]) -> tuple[MxnetEngine, TensorSpec]:
    """Build a network.

    :param graph: the file's architecture.
    :param input_shape: shape of the pictures, with the batch axis; all other sizes are known.
    :returns: the engine, and the name of the output layer with the shape of the output, with the batch axis (0).
    :raises ModelFormatError: if a layer is unknown, has an option that cannot be computed, or lacks its arrays.
    """
    for leaf in graph.root.leaves():
        with _naming_layer(leaf):
            if not is_operation(leaf) and leaf.class_name != "InputLayer":
                check(leaf.class_name, leaf.config)
    arrays = assign_weights(graph.root, file.groups)
    net = Net(file.theano, file.keras_version)
    with mx.name.Prefix("net_"):  # differs from every layer's and input's name
        output = _compute_graph(net, graph, arrays, input_shape)
        symbol = mx.sym.identity(output.plain(), name="answer")
    engine = MxnetEngine(symbol, symbol, net.arrays, graph.input_name, input_shape[1:])
    last = graph.calls[graph.output.call].leaf.name if graph.calls else graph.input_name
    return engine, TensorSpec(last, (0, *output.shape))


def _compute_graph(
    net: Net, graph: Graph, arrays: Mapping[Leaf, Mapping[str, Array]], input_shape: tuple[int, ...]
) -> Value:
    x = Value(mx.sym.Variable(graph.input_name), input_shape[1:], whole=graph.input_dtype not in FLOATS)
    if len(graph.input_shape) == len(input_shape) - 1:  # grey pictures without an axis for their single channel
        x = reshape(x, input_shape[1:-1])
    values: list[Value] = []

    def filled(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return values[argument.call] if argument.call >= 0 else x
        if isinstance(argument, list):
            return [filled(item) for item in argument]
        if isinstance(argument, dict):
            return {key: filled(item) for key, item in argument.items()}
        return argument

    for call in graph.calls:
        with _naming_layer(call.leaf):
            values.append(_call(net, call, filled(list(call.arguments)), filled(call.options), arrays))
    answer: Value = filled(graph.output)
    return answer


def _call(
    net: Net,
    call: Call,
    arguments: list[Any],
    options: dict[str, Any],
    arrays: Mapping[Leaf, Mapping[str, Array]],
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
