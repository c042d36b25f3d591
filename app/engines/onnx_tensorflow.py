"""ONNX graphs in TensorFlow's operations, for its converter to TensorFlow Lite.

:mod:`app.engines.tensorflow_job` loads this file in an environment with TensorFlow, so it imports nothing of the
application. Meanings are those of the ONNX operator specification, opset 7 and later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

Attributes = dict[str, Any]
Operation = Callable[[list[Any], Attributes], Any]


def function_of(path: str, output: str) -> Callable[[Any], Any]:
    """Return the network of an ONNX file as a function of its input, (1, …) -> (1, classes).

    :param output: the output; the first one if none has that name.
    :raises ValueError: if it has an operator that is not known here.
    """
    model = onnx.load(path)
    graph = model.graph
    (opset,) = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    (source,) = [item.name for item in graph.input if item.name not in constants]
    unknown = {
        node.op_type for node in graph.node if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx")
    }
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} cannot be written for TensorFlow Lite")

    def compute(picture: Any) -> Any:
        values: dict[str, Any] = {**constants, source: picture, "": None}
        for node in graph.node:
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            attributes |= {"opset": opset, "outputs": len(node.output)}
            inputs, operation = [values[name] for name in node.input], OPERATIONS[node.op_type]
            if all(item is None or isinstance(item, np.ndarray) for item in inputs):  # such as parts of a shape
                with tf.init_scope():
                    made = tf.nest.map_structure(np.asarray, operation(inputs, attributes))
            else:
                made = operation(inputs, attributes)
            values.update(zip(node.output, made if isinstance(made, list) else [made], strict=False))
        return values[next((item.name for item in graph.output if item.name == output), graph.output[0].name)]

    return compute


def _ints(value: Any) -> list[int]:
    return [int(item) for item in np.asarray(value).reshape(-1)]


def _option(inputs: list[Any], number: int, attributes: Attributes, name: str, default: Any = None) -> Any:
    """Return an option that is an input in newer opsets, and an attribute in older ones."""
    given = inputs[number] if len(inputs) > number else None
    return attributes.get(name, default) if given is None else given


def _sides(attributes: Attributes, sizes: list[int], kernel: list[int]) -> list[tuple[int, int]]:
    """Return the padding before and after each axis of the maps."""
    count = len(kernel)
    strides, dilations = attributes.get("strides", [1] * count), attributes.get("dilations", [1] * count)
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, window, stride, step in zip(sizes, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * step + 1 - size)
            less, more = total // 2, total - total // 2
            found.append((less, more) if automatic == "SAME_UPPER" else (more, less))
        return found
    pads = attributes.get("pads", [0] * 2 * count) if automatic == "NOTSET" else [0] * 2 * count
    return list(zip(pads[:count], pads[count:], strict=True))


def _padded(x: Any, sides: list[tuple[int, int]], fill: float = 0.0) -> Any:
    return tf.pad(x, [(0, 0), (0, 0), *sides], constant_values=fill) if any(map(any, sides)) else x


def _maps_last(x: Any) -> Any:
    return tf.transpose(x, [0, *range(2, len(x.shape)), 1])


def _maps_first(x: Any) -> Any:
    return tf.transpose(x, [0, len(x.shape) - 1, *range(1, len(x.shape) - 1)])


def _conv(inputs: list[Any], attributes: Attributes) -> Any:
    x, weights = inputs[0], inputs[1]
    kernel, groups = list(weights.shape[2:]), attributes.get("group", 1)
    x = _maps_last(_padded(x, _sides(attributes, list(x.shape[2:]), kernel)))
    strides, dilations = attributes.get("strides", [1] * len(kernel)), attributes.get("dilations", [1] * len(kernel))
    filters = tf.transpose(weights, [*range(2, len(weights.shape)), 1, 0])
    if groups > 1 and groups == x.shape[-1] and len(kernel) == 2:
        filters = tf.reshape(filters, [*kernel, groups, weights.shape[0] // groups])
        if strides[0] == strides[1]:
            made = tf.nn.depthwise_conv2d(x, filters, [1, *strides, 1], "VALID", dilations=dilations)
        else:  # TensorFlow has no depthwise convolution with two strides
            made = tf.nn.depthwise_conv2d(x, filters, [1, 1, 1, 1], "VALID", dilations=dilations)
            made = made[:, :: strides[0], :: strides[1]]
    else:  # TensorFlow Lite has no convolution in groups
        parts = zip(tf.split(x, groups, -1), tf.split(filters, groups, -1), strict=True)
        results = [tf.nn.convolution(part, own, strides, "VALID", dilations=dilations) for part, own in parts]
        made = results[0] if groups == 1 else tf.concat(results, -1)
    return _maps_first(made if len(inputs) < 3 or inputs[2] is None else made + inputs[2])


def _conv_transpose(inputs: list[Any], attributes: Attributes) -> Any:
    x, weights = inputs[0], inputs[1]
    kernel, groups = list(weights.shape[2:]), attributes.get("group", 1)
    strides, extra = attributes.get("strides", [1, 1]), attributes.get("output_padding", [0, 0])
    pads = attributes.get("pads", [0, 0, 0, 0])
    if set(attributes.get("dilations", [1])) != {1} or len(kernel) != 2 or "output_shape" in attributes:
        raise ValueError("ConvTranspose with dilations, output_shape or one axis cannot be written for TensorFlow Lite")
    whole = [(size - 1) * step + window for size, step, window in zip(x.shape[2:], strides, kernel, strict=True)]
    results = []
    for part, own in zip(tf.split(_maps_last(x), groups, -1), tf.split(weights, groups, 0), strict=True):
        shape = [1, *whole, own.shape[1]]
        results.append(tf.nn.conv2d_transpose(part, tf.transpose(own, [2, 3, 1, 0]), shape, strides, "VALID"))
    made = tf.concat(results, -1) if groups > 1 else results[0]
    made = tf.pad(made, [(0, 0), (0, extra[0]), (0, extra[1]), (0, 0)])
    height, width = (side + more for side, more in zip(whole, extra, strict=True))
    made = made[:, pads[0] : height - pads[2], pads[1] : width - pads[3]]
    return _maps_first(made if len(inputs) < 3 else made + inputs[2])


def _windows(kind: str, x: Any, kernel: list[int], strides: list[int], attributes: Attributes) -> Any:
    """Return the maxima or averages of windows of maps, channels last."""
    dilations = attributes.get("dilations", [1] * len(kernel))
    if len(kernel) == 2 and set(dilations) == {1}:  # tf.nn.pool allows no steps that are longer than the window
        return (tf.nn.max_pool2d if kind == "MAX" else tf.nn.avg_pool2d)(x, kernel, strides, "VALID")
    return tf.nn.pool(x, kernel, kind, strides, "VALID", dilations=dilations)


def _pool(kind: str) -> Operation:
    def pool(inputs: list[Any], attributes: Attributes) -> Any:
        x, kernel = inputs[0], attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        pads = _sides(attributes, list(x.shape[2:]), kernel)
        sides = list(pads)
        for number, (size, window, step) in enumerate(zip(x.shape[2:], kernel, strides, strict=True)):
            spare = size + sum(sides[number]) - window
            rounded = -(-spare // step) if attributes.get("ceil_mode", 0) else spare // step
            if rounded * step >= size + sides[number][0]:  # a window beyond the maps does not count
                rounded -= 1
            sides[number] = (sides[number][0], sides[number][1] + max(0, rounded * step - spare))
        fill = float(np.finfo(np.float32).min) if kind == "MAX" else 0.0
        made = _windows(kind, _maps_last(_padded(x, sides, fill)), kernel, strides, attributes)
        if kind == "AVG" and any(map(any, sides)):
            counted = np.ones((1, *x.shape[2:], 1), np.float32)
            counted = np.pad(counted, [(0, 0), *pads, (0, 0)], constant_values=attributes.get("count_include_pad", 0))
            beyond = [(0, after - own) for (_, after), (_, own) in zip(sides, pads, strict=True)]
            counted = np.pad(counted, [(0, 0), *beyond, (0, 0)])
            made = made / _windows(kind, tf.constant(counted), kernel, strides, attributes)
        return _maps_first(made)

    return pool


def _global(reduce: Callable[..., Any]) -> Operation:
    return lambda inputs, _attributes: reduce(inputs[0], list(range(2, len(inputs[0].shape))), keepdims=True)


def _reduce(reduce: Callable[..., Any]) -> Operation:
    def call(inputs: list[Any], attributes: Attributes) -> Any:
        axes = _option(inputs, 1, attributes, "axes")
        if axes is None and attributes.get("noop_with_empty_axes"):
            return inputs[0]
        return reduce(inputs[0], None if axes is None else _ints(axes), keepdims=bool(attributes.get("keepdims", 1)))

    return call


def _batch_normalization(inputs: list[Any], attributes: Attributes) -> Any:
    x, (scale, offset, mean, variance) = inputs[0], (np.asarray(item, np.float32) for item in inputs[1:])
    factor = scale / np.sqrt(variance + np.float32(attributes.get("epsilon", 1e-5)))
    shape = (-1, *[1] * (len(x.shape) - 2))
    return x * factor.reshape(shape) + (offset - mean * factor).reshape(shape)


def _normalized(x: Any, axes: range, attributes: Attributes) -> Any:
    mean, variance = tf.nn.moments(x, list(axes), keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + attributes.get("epsilon", 1e-5))


def _instance_normalization(inputs: list[Any], attributes: Attributes) -> Any:
    rank = len(inputs[0].shape)
    normal, shape = _normalized(inputs[0], range(2, rank), attributes), [-1, *[1] * (rank - 2)]
    return normal * tf.reshape(inputs[1], shape) + tf.reshape(inputs[2], shape)


def _layer_normalization(inputs: list[Any], attributes: Attributes) -> Any:
    rank = len(inputs[0].shape)
    normal = _normalized(inputs[0], range(attributes.get("axis", -1) % rank, rank), attributes) * inputs[1]
    return normal + inputs[2] if len(inputs) > 2 else normal


def _lrn(inputs: list[Any], attributes: Attributes) -> Any:
    size, alpha = attributes["size"], attributes.get("alpha", 1e-4)
    squares = _maps_last(inputs[0] * inputs[0])
    squares = tf.pad(squares, [(0, 0), (0, 0), (0, 0), ((size - 1) // 2, size // 2)])
    channels = inputs[0].shape[1]
    total = tf.add_n([squares[..., number : number + channels] for number in range(size)])
    return inputs[0] / tf.pow(
        attributes.get("bias", 1.0) + alpha / size * _maps_first(total), attributes.get("beta", 0.75)
    )


def _gemm(inputs: list[Any], attributes: Attributes) -> Any:
    turned = {"transpose_a": bool(attributes.get("transA", 0)), "transpose_b": bool(attributes.get("transB", 0))}
    made = tf.matmul(inputs[0], inputs[1], **turned) * attributes.get("alpha", 1.0)
    return made + inputs[2] * attributes.get("beta", 1.0) if len(inputs) > 2 and inputs[2] is not None else made


def _reshape(inputs: list[Any], attributes: Attributes) -> Any:
    sizes = _ints(inputs[1])
    if not attributes.get("allowzero", 0):
        sizes = [inputs[0].shape[number] if size == 0 else size for number, size in enumerate(sizes)]
    return tf.reshape(inputs[0], sizes)


def _flatten(inputs: list[Any], attributes: Attributes) -> Any:
    shape = list(inputs[0].shape)
    return tf.reshape(inputs[0], [int(np.prod(shape[: attributes.get("axis", 1)])), -1])


def _slice(inputs: list[Any], attributes: Attributes) -> Any:
    x = inputs[0]
    starts, ends = (_ints(_option(inputs, number, attributes, name)) for number, name in ((1, "starts"), (2, "ends")))
    axes = _ints(_option(inputs, 3, attributes, "axes", range(len(starts))))
    steps = _ints(_option(inputs, 4, attributes, "steps", [1] * len(starts)))
    parts = [slice(None)] * len(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places = range(x.shape[axis])[start:end:step]
        stop = places.stop if places.stop >= 0 else None
        parts[axis] = slice(places.start, stop, step) if len(places) else slice(0, 0)
    return x[tuple(parts)]


def _split(inputs: list[Any], attributes: Attributes) -> Any:
    axis, count = attributes.get("axis", 0), attributes["num_outputs" if "num_outputs" in attributes else "outputs"]
    sizes = _option(inputs, 1, attributes, "split")
    if sizes is None:
        size = -(-inputs[0].shape[axis] // count)
        sizes = [min(size, inputs[0].shape[axis] - number * size) for number in range(count)]
    return list(tf.split(inputs[0], _ints(sizes), axis))


def _pad(inputs: list[Any], attributes: Attributes) -> Any:
    pads, fill = _ints(_option(inputs, 1, attributes, "pads")), _option(inputs, 2, attributes, "value", 0.0)
    sides = list(zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True))
    mode = attributes.get("mode", b"constant").decode()
    if mode == "edge":
        for axis, (before, after) in enumerate(sides):
            rows = [*[0] * before, *range(inputs[0].shape[axis]), *[inputs[0].shape[axis] - 1] * after]
            inputs = [tf.gather(inputs[0], rows, axis=axis)] if before or after else inputs
        return inputs[0]
    if mode == "reflect":
        return tf.pad(inputs[0], sides, "REFLECT")
    made = tf.pad(inputs[0], [(max(0, a), max(0, b)) for a, b in sides], constant_values=float(np.asarray(fill).item()))
    cut = tuple(slice(max(0, -a), size - max(0, -b)) for (a, b), size in zip(sides, made.shape, strict=True))
    return made[cut] if min(pads) < 0 else made


def _squeeze(inputs: list[Any], attributes: Attributes) -> Any:
    axes = _option(inputs, 1, attributes, "axes")
    return tf.squeeze(inputs[0], None if axes is None else _ints(axes))


def _unsqueeze(inputs: list[Any], attributes: Attributes) -> Any:
    axes = _ints(_option(inputs, 1, attributes, "axes"))
    x, rank = inputs[0], len(inputs[0].shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = tf.expand_dims(x, axis)
    return x


def _resize(inputs: list[Any], attributes: Attributes) -> Any:
    mode = attributes.get("mode", b"nearest").decode(), attributes.get("coordinate_transformation_mode", b"half_pixel")
    x, sizes = inputs[0], inputs[3] if len(inputs) > 3 else None
    height, width = (
        _ints(sizes)[2:]
        if sizes is not None
        else [int(side * scale) for side, scale in zip(x.shape[2:], np.asarray(inputs[-1])[2:], strict=True)]
    )
    if mode[0] == "nearest" and height % x.shape[2] == width % x.shape[3] == 0:  # the same for every convention
        return tf.repeat(tf.repeat(x, height // x.shape[2], 2), width // x.shape[3], 3)
    if mode in (("linear", b"half_pixel"), ("linear", b"pytorch_half_pixel")):
        return _maps_first(tf.image.resize(_maps_last(x), (height, width)))
    raise ValueError(f"Resize by {mode[0]}, {mode[1].decode()} cannot be written for TensorFlow Lite")


def _hard_sigmoid(inputs: list[Any], attributes: Attributes) -> Any:
    return tf.clip_by_value(attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0.0, 1.0)


def _clip(inputs: list[Any], attributes: Attributes) -> Any:
    low, high = _option(inputs, 1, attributes, "min", -np.inf), _option(inputs, 2, attributes, "max", np.inf)
    return tf.minimum(tf.maximum(inputs[0], low), high)


def _softmax(function: Callable[..., Any]) -> Operation:
    def call(inputs: list[Any], attributes: Attributes) -> Any:
        x = inputs[0]
        if attributes["opset"] >= 13:
            return function(x, attributes.get("axis", -1))
        rows = tf.reshape(x, [int(np.prod(x.shape[: attributes.get("axis", 1)])), -1])
        return tf.reshape(function(rows), x.shape)

    return call


def _cast(inputs: list[Any], attributes: Attributes) -> Any:
    return tf.cast(inputs[0], onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _selu(inputs: list[Any], attributes: Attributes) -> Any:
    gamma, alpha = attributes.get("gamma", 1.0507009873554805), attributes.get("alpha", 1.6732632423543772)
    return gamma * (tf.nn.relu(inputs[0]) + alpha * (tf.exp(tf.minimum(inputs[0], 0.0)) - 1))


def _elu(inputs: list[Any], attributes: Attributes) -> Any:
    return tf.nn.relu(inputs[0]) + attributes.get("alpha", 1.0) * (tf.exp(tf.minimum(inputs[0], 0.0)) - 1)


def _erf(inputs: list[Any], _attributes: Attributes) -> Any:
    """Return the error function to 1.5e-7, which TensorFlow Lite lacks (Abramowitz and Stegun, formula 7.1.26)."""
    x = tf.abs(inputs[0])
    t = 1 / (1 + 0.3275911 * x)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return tf.sign(inputs[0]) * (1 - series * tf.exp(-x * x))


def _blocks(function: Callable[..., Any]) -> Operation:
    def call(inputs: list[Any], attributes: Attributes) -> Any:
        if attributes.get("mode", b"DCR") != b"DCR":
            raise ValueError("DepthToSpace by columns first (CRD) cannot be written for TensorFlow Lite")
        return _maps_first(function(_maps_last(inputs[0]), attributes["blocksize"]))

    return call


def _unary(function: Callable[[Any], Any]) -> Operation:
    return lambda inputs, _attributes: function(inputs[0])


def _folded(function: Callable[[Any, Any], Any]) -> Operation:
    def call(inputs: list[Any], _attributes: Attributes) -> Any:
        made = inputs[0]
        for item in inputs[1:]:
            made = function(made, item)
        return made

    return call


OPERATIONS: dict[str, Operation] = {
    **{name: _folded(getattr(tf, function)) for name, function in {
        "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Pow": "pow", "Max": "maximum",
        "Min": "minimum", "Equal": "equal", "Less": "less", "Greater": "greater", "MatMul": "matmul", "Sum": "add",
    }.items()},
    **{name: _unary(getattr(tf.math, name.lower())) for name in (
        "Abs", "Ceil", "Cos", "Exp", "Floor", "Log", "Reciprocal", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
        "Sqrt", "Tanh",
    )},
    "Neg": _unary(tf.negative), "Not": _unary(tf.logical_not), "Relu": _unary(tf.nn.relu),
    "Identity": _unary(tf.identity), "Dropout": _unary(tf.identity),
    "Shape": lambda inputs, _: np.array(inputs[0].shape, np.int64),
    "LeakyRelu": lambda inputs, attributes: tf.nn.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "PRelu": lambda inputs, _: tf.maximum(inputs[0], 0.0) + inputs[1] * tf.minimum(inputs[0], 0.0),
    "HardSwish": lambda inputs, _: inputs[0] * tf.clip_by_value(inputs[0] / 6 + 0.5, 0.0, 1.0),
    "HardSigmoid": _hard_sigmoid, "Erf": _erf, "Elu": _elu, "Selu": _selu, "Clip": _clip, "Cast": _cast,
    "Softmax": _softmax(tf.nn.softmax), "LogSoftmax": _softmax(tf.nn.log_softmax),
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "LRN": _lrn,
    "BatchNormalization": _batch_normalization, "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "MaxPool": _pool("MAX"), "AveragePool": _pool("AVG"),
    "GlobalAveragePool": _global(tf.reduce_mean), "GlobalMaxPool": _global(tf.reduce_max),
    "ReduceMean": _reduce(tf.reduce_mean), "ReduceSum": _reduce(tf.reduce_sum), "ReduceMax": _reduce(tf.reduce_max),
    "ReduceMin": _reduce(tf.reduce_min), "ReduceProd": _reduce(tf.reduce_prod),
    "ReduceL2": _reduce(lambda x, axes, keepdims: tf.sqrt(tf.reduce_sum(x * x, axes, keepdims=keepdims))),
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Slice": _slice,
    "Split": _split, "Pad": _pad, "Resize": _resize, "DepthToSpace": _blocks(tf.nn.depth_to_space),
    "SpaceToDepth": _blocks(tf.nn.space_to_depth),
    "Transpose": lambda inputs, attributes: tf.transpose(inputs[0], attributes.get("perm")),
    "Concat": lambda inputs, attributes: tf.concat(inputs, attributes["axis"]),
    "Gather": lambda inputs, attributes: tf.gather(inputs[0], inputs[1], axis=attributes.get("axis", 0)),
    "Tile": lambda inputs, _: tf.tile(inputs[0], _ints(inputs[1])),
    "Expand": lambda inputs, _: inputs[0] * tf.ones(_ints(inputs[1]), inputs[0].dtype),
    "Where": lambda inputs, _: tf.where(*inputs),
    "Constant": lambda _inputs, attributes: numpy_helper.to_array(attributes["value"]),
    "ConstantOfShape": lambda inputs, attributes: tf.fill(
        _ints(inputs[0]), numpy_helper.to_array(attributes["value"]).item() if "value" in attributes else 0.0
    ),
}  # fmt: skip
