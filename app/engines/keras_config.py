"""Architectures saved by newer Kerases, in the words of Keras 2.2.4, which is what Keras-MXNet is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from app.errors import ModelFormatError

# Only training asks for these, and newer Kerases spell them in ways that 2.2.4 cannot read.
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
# Options that came later, with the value at which they change nothing.
_NEUTRAL = {"groups": (1, None), "ragged": (False, None), "keepdims": (False, None), "synchronized": (False, None)}
_IDENTITIES = (
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout"),
    *("AlphaDropout", "ActivityRegularization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast"),
    *("RandomTranslation", "RandomBrightness", "RandomHeight", "RandomWidth"),
)
"""Layers that do something while a network learns and nothing afterwards, which Keras-MXNet cannot build. A Dropout
does nothing afterwards either, and it can build that."""
_POOLS = ("GlobalAveragePooling2D", "GlobalMaxPooling2D")
_EVERY_LAYER = {"name", "trainable", "batch_input_shape", "batch_size"}
_MODELS = {"Functional": "Model", "Model": "Model", "Sequential": "Sequential"}


def adapt(node: dict[str, Any], layers: Any, added: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite the description of a model or layer, ``{"class_name", "config", …}``, and of all that it holds.

    :param layers: the module ``keras.layers`` that is to build them.
    :param added: layers beside those, by their names.
    :raises ModelFormatError: where a layer is unknown to it, or uses an option that it lacks.
    """
    name, config = str(node.get("class_name")), node.get("config")
    if name in _MODELS:
        return {**node, "class_name": _MODELS[name], "config": _adapt_model(config, layers, added)}
    if name in _IDENTITIES and isinstance(config, dict):
        kept = {key: config[key] for key in ("name", "batch_input_shape") if key in config}
        return {**node, "class_name": "Dropout", "config": {**kept, "rate": 0.5}}
    name = name.partition(">")[2] or name  # tf.keras marks some as Custom>Name or Keras>Name
    if name in _POOLS and isinstance(config, dict) and config.get("keepdims"):
        name = f"{name}Keepdims"
    kind = added.get(name) or getattr(layers, name, None)
    if kind is None or not isinstance(config, dict):
        named = config.get("name") if isinstance(config, dict) else None
        raise ModelFormatError(f"its layer {named} is of the kind {name!r}, which Keras 2.2.4 does not know")
    kept = {key: value for key, value in config.items() if _is_kept(kind, name, key, value)}
    if isinstance(config.get("layer"), dict):  # TimeDistributed and its like hold another
        kept["layer"] = adapt(config["layer"], layers, added)
    if name == "BatchNormalization" and isinstance(kept.get("axis"), list):
        kept["axis"] = kept["axis"][0]
    if isinstance(kept.get("activation"), dict):  # an object of its own in newer Kerases
        kept["activation"] = _activation(kept["activation"])
    return {**node, "class_name": name, "config": kept}


def _activation(described: dict[str, Any]) -> Any:
    inner = described.get("config")
    name = inner if isinstance(inner, str) else described.get("class_name")
    return name.lower() if isinstance(name, str) else described


def _adapt_model(config: Any, layers: Any, added: Mapping[str, Any]) -> Any:
    if isinstance(config, list):  # Sequential as Keras saved it before 2.2.3
        return [adapt(layer, layers, added) for layer in config]
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ModelFormatError("its model_config describes no layers")
    return {**config, "layers": [adapt(layer, layers, added) for layer in config["layers"]]}


def _is_kept(kind: Any, layer: str, key: str, value: Any) -> bool:
    if key == "keepdims" and layer.endswith("Keepdims"):
        return False
    if key.endswith(_TRAINING_ONLY):
        return False
    if key in _NEUTRAL and value not in _NEUTRAL[key]:
        raise ModelFormatError(f"its layer {layer} has {key}={value!r}, which Keras 2.2.4 cannot compute")
    known = inspect.signature(kind.__init__).parameters
    return key in _EVERY_LAYER or (key in known and key != "dtype")
