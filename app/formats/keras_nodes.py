"""Operations of TensorFlow as Keras saved them before TensorFlow 2.4, in the words of later files.

A ``TensorFlowOpLayer`` has TensorFlow's own description of a node (``node_def``), and those of its inputs that are
constants by their places.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import ModelFormatError

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

    :param tensors: what the layer is called with; the other inputs are constants.
    :returns: the name that a ``TFOpLambda`` has for the operation, its arguments and its named ones.
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
    """Write a strided slice as Keras writes NumPy's; bits of the masks stand for its parts."""
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
