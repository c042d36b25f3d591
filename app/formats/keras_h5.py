"""Keras's whole-model ``.h5`` files, as Keras 2 saves them: an architecture in JSON and the weights of each layer.

Format: the root has an attribute ``model_config`` (JSON); the group ``model_weights`` has the attributes
``layer_names``, ``backend`` and ``keras_version``, and a group for every layer with an attribute ``weight_names`` and
as many datasets. Attributes are bytes in files of h5py 2 and text in those of h5py 3; long lists are cut up into
``layer_names0``, ``layer_names1`` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError


@dataclass(frozen=True)
class H5Model:
    """What an ``.h5`` file holds. ``weights`` has only the layers that have some, in the file's order."""

    config: dict[str, Any]
    weights: tuple[tuple[str, tuple[NDArray[Any], ...]], ...]
    keras_version: str
    backend: str


def read_h5(path: Path) -> H5Model:
    """Read a whole-model ``.h5`` file. Nothing in it is executed.

    :raises ModelFormatError: where it cannot be read, holds weights alone, or holds a ``Lambda`` layer, which is code.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _read(file)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path} cannot be served: {error}") from None
    except Exception as error:  # h5py raises whatever its C library says, of many kinds
        raise ModelFormatError(f"{path} is not a whole Keras model: {error or type(error).__name__}") from None


def _read(file: Any) -> H5Model:
    if "model_config" not in file.attrs:
        raise ModelFormatError("it holds no architecture, only weights; save it with model.save(), not save_weights()")
    config = json.loads(_text(file.attrs["model_config"]))
    if any(name == "Lambda" for name in _class_names(config)):
        raise ModelFormatError("it has a Lambda layer, whose code would be run; save the model without it")
    group = file["model_weights"]
    layers = ((name, _layer_weights(group[name])) for name in _names(group, "layer_names"))
    return H5Model(
        config=config,
        weights=tuple((name, arrays) for name, arrays in layers if arrays),
        keras_version=_text(group.attrs.get("keras_version", "1")),
        backend=_text(group.attrs.get("backend", "")),
    )


def _layer_weights(group: Any) -> tuple[NDArray[Any], ...]:
    return tuple(np.asarray(group[name]) for name in _names(group, "weight_names"))


def _names(group: Any, attribute: str) -> list[str]:
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [_text(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _class_names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "class_name" in node:
            yield str(node["class_name"])
        for value in node.values():
            yield from _class_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _class_names(value)
