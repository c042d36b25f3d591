"""Peculiarities of the ``.h5`` files that Keras-MXNet saved.

- kernels of layers whose channels are first have the axes of MXNet, not those of TensorFlow;
- normalizations have a scale and a shift even if their options say that they have none.

How Keras-MXNet computes differs, too: normalizations ignore their scale, ``same`` padding has its odd line at the
beginning and counts in averages, and enlarging repeats pixels whatever the interpolation. The layers see to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.engines.keras.graph import Array
from app.formats.keras_graph import Leaf

NORMALIZATION = "BatchNormalization"
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
    if made.get("class_name") == NORMALIZATION and isinstance(made.get("config"), dict):
        made["config"] = {**made["config"], "scale": True, "center": True}
    return made
