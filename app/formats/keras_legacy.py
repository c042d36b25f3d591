"""Translation of the architectures of earlier Keras versions to Keras 2.

The changes are in Keras's own release notes of 2.0 (github.com/keras-team/keras, March 2017): layers and options were
renamed, a window's sides became one option, ``Merge`` became one layer for each of its modes, and ``dim_ordering``
(``th``, ``tf``) became ``data_format``. Kernels of ``th`` have the axes (out, in, height, width).

A ``TensorFlowOpLayer`` has TensorFlow's own description of a node (``node_def``), and its constant inputs by their
places.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from app.errors import ModelFormatError

LAYERS = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
}
OPTIONS = {
    "nb_filter": "filters",
    "output_dim": "units",
    "subsample": "strides",
    "border_mode": "padding",
    "bias": "use_bias",
    "p": "rate",
    "sigma": "stddev",
    "atrous_rate": "dilation_rate",
}
MERGES = {"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum"}
DROPPED = {
    *("init", "W_regularizer", "b_regularizer", "W_constraint", "b_constraint", "activity_regularizer"),
    *("gamma_regularizer", "beta_regularizer", "input_dtype", "input_dim", "nb_row", "nb_col", "mode", "dim_ordering"),
    *("output_shape", "create_input_layer"),
}
"""Options that only training needs, or that are expressed differently in Keras 2."""
BY_CHANNELS = {
    *("Conv2D", "SeparableConv2D", "Conv2DTranspose", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D"),
    *("GlobalMaxPooling2D", "GlobalAveragePooling2D", "ZeroPadding2D", "Cropping2D", "UpSampling2D"),
    "SpatialDropout2D",
}
"""Layers that need the place of the channels; some of Keras 1 did not store it."""


def is_keras1(config: dict[str, Any]) -> bool:
    """Return whether an architecture was saved by Keras 1."""
    return any(
        name in LAYERS
        or name == "Merge"
        or {"dim_ordering", "border_mode", "nb_filter"} & set(options)
        or (name == "Dense" and "output_dim" in options)
        for name, options in _layers(config)
    )


def channels_first(config: dict[str, Any]) -> bool:
    """Return whether an architecture of Keras 1 has its channels first (``th``).

    If no layer states it, the axis of the input with one or three values holds the channels.
    """
    for _name, options in _layers(config):
        if options.get("dim_ordering") in ("th", "tf"):
            return bool(options["dim_ordering"] == "th")
    shapes = [options["batch_input_shape"] for _name, options in _layers(config) if options.get("batch_input_shape")]
    return any(len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3) for shape in shapes)


def kernel_to_keras2(array: NDArray[Any], first: bool) -> NDArray[Any]:
    """Return a kernel in Keras 2's axes, (height, width, in, out); other weights unchanged.

    :param first: whether the channels are first (``th``).
    """
    return array.transpose(2, 3, 1, 0) if first and array.ndim == 4 else array


def to_keras2(config: dict[str, Any]) -> dict[str, Any]:
    """Translate the description of a model of Keras 1, ``{"class_name", "config", …}``.

    :raises ModelFormatError: if it has something that Keras 2 cannot express.
    """
    return _rewrite(config, "channels_first" if channels_first(config) else "channels_last")


def _rewrite(node: dict[str, Any], data_format: str) -> dict[str, Any]:
    name, options = str(node.get("class_name")), node.get("config")
    if name in ("Sequential", "Model"):
        return {**node, "config": _model(options, data_format)}
    if not isinstance(options, dict):
        raise ModelFormatError(f"its layer {name} has no options")
    if name == "Deconvolution2D":
        raise ModelFormatError(f"its layer {options.get('name')} is a Deconvolution2D of Keras 1, which is not read")
    if name == "Merge":
        kind, options = _merge(options)
    else:
        kind, options = LAYERS.get(name, name), _options(name, options)
    if kind in BY_CHANNELS:
        options["data_format"] = data_format
    return {**node, "class_name": kind, "config": options}


def _model(options: Any, data_format: str) -> Any:
    if isinstance(options, list):
        return [_rewrite(layer, data_format) for layer in options]
    if not isinstance(options, dict) or not isinstance(options.get("layers"), list):
        raise ModelFormatError("its model_config describes no layers")
    return {**options, "layers": [_rewrite(layer, data_format) for layer in options["layers"]]}


def _options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    renamed = {OPTIONS.get(key, key): value for key, value in options.items() if key not in DROPPED}
    if "nb_row" in options:
        renamed["kernel_size"] = [options["nb_row"], options["nb_col"]]
    if "filter_length" in options:
        renamed["kernel_size"] = [renamed.pop("filter_length")]
        renamed["strides"] = [renamed.pop("subsample_length", 1)]
    if name == "BatchNormalization" and options.get("mode", 0) not in (0, 2):
        raise ModelFormatError(
            f"its layer {options.get('name')} has mode={options['mode']}, which Keras 2 cannot compute"
        )
    if "input_dim" in options and "batch_input_shape" not in options and name == "Dense":
        renamed["batch_input_shape"] = [None, options["input_dim"]]
    padding = renamed.get("padding")
    if name == "ZeroPadding2D" and isinstance(padding, list) and len(padding) == 4:
        renamed["padding"] = [padding[:2], padding[2:]]
    if name == "ZeroPadding2D" and isinstance(padding, dict):
        sides = [padding.get(side, 0) for side in ("top_pad", "bottom_pad", "left_pad", "right_pad")]
        renamed["padding"] = [sides[:2], sides[2:]]
    return renamed


def _merge(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    mode = options.get("mode")
    if options.get("layers"):
        raise ModelFormatError(f"its layer {options.get('name')} merges models of their own; an image has one input")
    if mode not in MERGES:
        raise ModelFormatError(f"its layer {options.get('name')} merges by {mode!r}; known are {', '.join(MERGES)}")
    options_left: dict[str, Any] = {"name": options.get("name")}
    return MERGES[mode], options_left | ({"axis": options.get("concat_axis", -1)} if mode == "concat" else {})


def _layers(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all layers of an architecture with their options, including those of inner models."""
    if isinstance(node, list):
        for item in node:
            yield from _layers(item)
    elif isinstance(node, dict):
        options = node.get("config")
        if "class_name" in node and isinstance(options, dict) and "layers" not in options:
            yield str(node["class_name"]), options
        elif options is not None:
            yield from _layers(options)
        if isinstance(node.get("layers"), list):
            yield from _layers(node["layers"])


_OLD = {
    **{"Add": "math.add", "AddV2": "math.add", "Sub": "math.subtract", "Mul": "math.multiply", "Pow": "math.pow"},
    **{"RealDiv": "math.divide", "Maximum": "math.maximum", "Minimum": "math.minimum", "BiasAdd": "nn.bias_add"},
    **{"Relu": "nn.relu", "Relu6": "nn.relu6", "Sigmoid": "math.sigmoid", "Tanh": "math.tanh", "Identity": "identity"},
    **{"Neg": "math.negative", "Square": "math.square", "Sqrt": "math.sqrt", "Exp": "math.exp", "Cast": "cast"},
    **{"ExpandDims": "expand_dims", "Mean": "math.reduce_mean", "StridedSlice": "__operators__.getitem"},
}
_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def read_node(config: Mapping[str, Any], tensors: Sequence[Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """Read the options of a ``TensorFlowOpLayer``.

    :param tensors: the layer's input tensors; the other inputs are constants.
    :returns: the operation's name in a ``TFOpLambda``, its positional arguments and its named arguments.
    :raises ModelFormatError: if the operation is unknown.
    """
    node = config.get("node_def")
    name = str(node.get("op")) if isinstance(node, Mapping) else "without a description"
    if not isinstance(node, Mapping) or name not in _OLD:
        raise ModelFormatError(f"it is the operation {name} of TensorFlow, which is not known")
    constants = {int(place): value for place, value in (config.get("constants") or {}).items()}
    rest = iter(tensors)
    arguments: list[Any] = [
        constants[n] if n in constants else next(rest, None) for n in range(len(tensors) + len(constants))
    ]
    # each attribute is an object of one value, such as {"i": "2"}; texts are in base64
    attributes = {key: next(iter(value.values()), None) for key, value in (node.get("attr") or {}).items()}
    options: dict[str, Any] = {}
    if name == "BiasAdd" and attributes.get("data_format"):
        options["data_format"] = base64.b64decode(str(attributes["data_format"])).decode()
    elif name == "Cast":
        options["dtype"] = {"DT_FLOAT": "float32", "DT_HALF": "float16"}.get(
            str(attributes.get("DstT")), "another type"
        )
    elif name == "Mean":
        options["keepdims"] = bool(attributes.get("keep_dims"))
    elif name == "StridedSlice":
        masks = [int(attributes.get(mask) or 0) for mask in _MASKS]
        arguments = [arguments[0], _slices(*arguments[1:], *masks)]
    return _OLD[name], arguments, options


def _slices(
    begin: list[int], end: list[int], strides: list[int], begins: int, ends: int, ellipsis: int, new: int, shrink: int
) -> list[Any]:
    """Return a strided slice in Keras's notation of NumPy's slices; bits of the masks stand for its parts."""
    spec: list[Any] = []
    for number, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << number
        if ellipsis & bit:
            spec.append({"class_name": "__ellipsis__"})
        elif new & bit:
            spec.append(None)
        elif shrink & bit:
            spec.append(start)
        else:
            bounds = {"start": None if begins & bit else start, "stop": None if ends & bit else stop}
            spec.append({**bounds, "step": None if step == 1 else step})
    return spec
