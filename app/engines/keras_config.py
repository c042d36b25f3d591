"""Architectures saved by newer Kerases, in the words of Keras 2.2.4, which is what Keras-MXNet is."""

from __future__ import annotations

import inspect
from typing import Any

from app.errors import ModelFormatError

# Only training asks for these, and newer Kerases spell them in ways that 2.2.4 cannot read.
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
# Options that came later, with the value at which they change nothing.
_NEUTRAL = {"groups": (1, None), "ragged": (False, None), "keepdims": (False, None), "synchronized": (False, None)}
_EVERY_LAYER = {"name", "trainable", "batch_input_shape", "batch_size"}
_MODELS = {"Functional": "Model", "Model": "Model", "Sequential": "Sequential"}


def adapt(node: dict[str, Any], layers: Any) -> dict[str, Any]:
    """Rewrite the description of a model or layer, ``{"class_name", "config", …}``, and of all that it holds.

    :param layers: the module ``keras.layers`` that is to build them.
    :raises ModelFormatError: where a layer is unknown to it, or uses an option that it lacks.
    """
    name, config = str(node.get("class_name")), node.get("config")
    if name in _MODELS:
        return {**node, "class_name": _MODELS[name], "config": _adapt_model(config, layers)}
    kind = getattr(layers, name, None)
    if kind is None or not isinstance(config, dict):
        raise ModelFormatError(f"it has a layer {name!r}, which Keras 2.2.4 does not know")
    kept = {key: value for key, value in config.items() if _is_kept(kind, name, key, value)}
    if isinstance(config.get("layer"), dict):  # TimeDistributed and its like hold another
        kept["layer"] = adapt(config["layer"], layers)
    if name == "BatchNormalization" and isinstance(kept.get("axis"), list):
        kept["axis"] = kept["axis"][0]
    return {**node, "config": kept}


def _adapt_model(config: Any, layers: Any) -> Any:
    if isinstance(config, list):  # Sequential as Keras saved it before 2.2.3
        return [adapt(layer, layers) for layer in config]
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ModelFormatError("its model_config describes no layers")
    return {**config, "layers": [adapt(layer, layers) for layer in config["layers"]]}


def _is_kept(kind: Any, layer: str, key: str, value: Any) -> bool:
    if key.endswith(_TRAINING_ONLY):
        return False
    if key in _NEUTRAL and value not in _NEUTRAL[key]:
        raise ModelFormatError(f"its layer {layer} has {key}={value!r}, which Keras 2.2.4 cannot compute")
    known = inspect.signature(kind.__init__).parameters
    return key in _EVERY_LAYER or (key in known and key != "dtype")
