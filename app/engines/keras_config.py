"""The check that Keras-MXNet, which is Keras 2.2.4, knows every option of an architecture."""

from __future__ import annotations

import inspect
from typing import Any

from app.errors import ModelFormatError
from app.formats.keras_graph import MODELS

_EVERY_LAYER = {"name", "trainable", "dtype", "batch_input_shape", "batch_size"}


def check_known(node: Any, layers: Any) -> None:
    """Check the description of a model or layer, ``{"class_name", "config", …}``, and of all that it holds.

    :param layers: the module ``keras.layers`` that is to build them.
    :raises ModelFormatError: if a layer is unknown to it, or has an option that is.
    """
    name, config = str(node.get("class_name")), node.get("config")
    if name in MODELS:
        listed = config.get("layers") if isinstance(config, dict) else config
        if not isinstance(listed, list):
            raise ModelFormatError("its model_config describes no layers")
        for layer in listed:
            check_known(layer, layers)
        return
    kind = getattr(layers, name, None)
    if kind is None or not isinstance(config, dict):
        named = config.get("name") if isinstance(config, dict) else None
        raise ModelFormatError(f"its layer {named} is of the kind {name!r}, which Keras 2.2.4 does not know")
    known = inspect.signature(kind.__init__).parameters
    for option, value in config.items():
        if option not in known and option not in _EVERY_LAYER:
            raise ModelFormatError(
                f"its layer {config.get('name')} is a {name} with {option}={value!r}, which Keras 2.2.4 does not know"
            )
    if isinstance(config.get("layer"), dict):  # TimeDistributed and its like hold another
        check_known(config["layer"], layers)
