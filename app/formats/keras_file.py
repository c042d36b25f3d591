"""A reader of Keras's files, as Keras 1.2 to 3 save them: an architecture in JSON and each layer's weights.

An ``.h5`` file has one group for each layer of the outermost model. An inner model is one such layer. Its group lists
the trainable arrays of all its layers first, then all the others, as ``model.weights`` does: kernels and biases, scales
and shifts, then the moving means and variances. Frozen arrays are among the others. So arrays are assigned in that
order, or by name if the names contain layers: ``Conv1/kernel:0``.

Format: the root has an attribute ``model_config`` (JSON); the group ``model_weights`` has the attributes
``layer_names``, ``backend`` and ``keras_version``, and a group for every layer with an attribute ``weight_names`` and
as many datasets. Attributes are bytes in files of h5py 2 and text in files of h5py 3; long lists are split into
``layer_names0``, ``layer_names1`` and so on.

A file of weights alone (``save_weights``) is such a group without ``model_config``, or is as
:mod:`app.formats.keras_archive` describes for ``.weights.h5``. The architecture is then in a JSON file beside it, as
``to_json`` writes it. Keras 1 writes no ``backend``. That module also unpacks ``.keras`` files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.errors import ModelFormatError
from app.formats.hdf5 import Arrays, check_file, member
from app.formats.keras3_to_keras2 import is_keras3
from app.formats.keras3_to_keras2 import to_keras2 as of_keras3
from app.formats.keras_archive import is_archive, is_store, stored_weights, unpacked
from app.formats.keras_graph import described_objects, read_layers
from app.formats.keras_legacy import channels_first, is_keras1, kernel_to_keras2, to_keras2
from app.formats.keras_weights import Group, slots
from app.utils.files import refuse_pointer
from app.utils.json import parse_json, read_json, read_object

Weights = tuple[tuple[str, tuple[NDArray[Any], ...]], ...]

MODELS = ("Sequential", "Model", "Functional")
CODE = ("Lambda",)
"""Layers that contain code."""

BESIDE = (
    *("{stem}.json", "{stem}_model.json", "{stem}-model.json", "{short}.json"),
    *("model.json", "architecture.json", "config.json"),
)
"""Possible names of the architecture for weights alone; ``short`` is the file's stem without ``weights``."""


@dataclass(frozen=True)
class H5Model:
    """The content of a file of Keras. ``weights`` has only the layers with weights, in file order.

    ``config`` is in the format of Keras 2, whichever version wrote the file. If ``backend`` is ``tensorflow``, the
    weights have the axes of Keras 2 over TensorFlow. ``theano`` is true if they were trained over Theano nevertheless,
    which pads differently. ``guessed`` is true if the file does not state the backend.
    """

    config: dict[str, Any]
    weights: Weights
    keras_version: str
    backend: str
    theano: bool = False
    guessed: bool = False
    weight_names: tuple[tuple[str, ...], ...] = ()

    @property
    def groups(self) -> list[Group]:
        """Return the weights with their names in the file."""
        names = self.weight_names or tuple(("",) * len(arrays) for _name, arrays in self.weights)
        return [Group(name, given, arrays) for (name, arrays), given in zip(self.weights, names, strict=True)]


def architecture_beside(path: Path) -> Path | None:
    """Return the JSON file beside an ``.h5`` file that describes a Keras model; None if there is none.

    It counts only if the ``.h5`` holds weights alone.
    """
    short = re.sub(r"[_.\-]?weights[_.\-]?", "", path.stem, flags=re.IGNORECASE)
    named = [path.with_name(pattern.format(stem=path.stem, short=short)) for pattern in BESIDE]
    return next((file for file in named if file.name != ".json" and file.is_file() and is_architecture(file)), None)


def is_architecture(path: Path) -> bool:
    """Return whether a file is a model's description by Keras's ``to_json``."""
    document = read_object(path)
    return "config" in document and document.get("class_name") in MODELS


def read_h5(path: Path, architecture: Path | None = None) -> H5Model:
    """Read an ``.h5`` or a ``.keras`` file without executing any of it. Its content decides which it is, not its name.

    :param architecture: the model's description, if the file holds weights alone; by default the file beside it.
    :raises ModelFormatError: if the file cannot be read, holds weights alone without a description beside it, or holds
        a ``Lambda`` layer, which is code.
    """
    import h5py

    refuse_pointer(path)
    try:
        if is_archive(path):
            with unpacked(path) as saved:
                check_file(saved.weights)
                with h5py.File(saved.weights, "r") as file:
                    return _of_store(file, saved.weights, saved.config, saved.keras_version)
        check_file(path)
        with h5py.File(path, "r") as file:
            return _read(file, path, architecture)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path} cannot be served: {error}") from None
    except Exception as error:  # h5py passes on its C library's errors, as many types
        raise ModelFormatError(f"{path} is not a Keras model: {error or type(error).__name__}") from None


def _read(file: Any, path: Path, architecture: Path | None) -> H5Model:
    if "model_config" in file.attrs:
        config, group = parse_json(_text(file.attrs["model_config"])), member(file, "model_weights")
        version = _text(file.attrs.get("keras_version", ""))
    else:
        architecture = architecture or architecture_beside(path)
        if architecture is None:
            raise ModelFormatError(
                "it holds weights alone, no architecture. Put model.to_json() beside it as model.json, "
                "or save all with model.save(), not save_weights()"
            )
        config, group = read_json(architecture), file
        version = str(config.get("keras_version", ""))
    if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
        if is_store(group):
            return _of_store(group, path, config, version)
        raise ModelFormatError("its weights are not listed by layers, as Keras lists them")
    _refuse_code(config)
    version = _text(group.attrs.get("keras_version", version))
    arrays = Arrays(path.stat().st_size)
    layers = [(name, member(group, name)) for name in _names(group, "layer_names")]
    named = [(name, layer, tuple(_names(layer, "weight_names"))) for name, layer in layers]
    weights = tuple((name, tuple(arrays.take(layer, name) for name in names)) for name, layer, names in named if names)
    backend = _text(group.attrs.get("backend", ""))
    if version.startswith("3") or is_keras3(config):
        model = H5Model(of_keras3(config), weights, version or "3", "tensorflow")
    elif is_keras1(config):
        model = _of_keras1(config, weights, backend)
    else:
        model = _of_theano(H5Model(config, weights, version or "2", backend))
    return replace(model, weight_names=tuple(names for _name, _layer, names in named if names))


def _of_store(file: Any, path: Path, config: Any, version: str) -> H5Model:
    """Return the content of a ``.keras`` file, with its weights in the order of ``.h5`` files."""
    _refuse_code(config)
    config = of_keras3(config, is_older=version.startswith("2") and not is_keras3(config))
    root = read_layers(config)
    found = stored_weights(file, root, Arrays(path.stat().st_size))
    listed = [(child.name, [slot for side in slots(child) for slot in side]) for child in root.children]
    return H5Model(
        config,
        tuple((name, tuple(found[leaf][role] for leaf, role in places)) for name, places in listed if places),
        version or "3",
        "tensorflow",
        weight_names=tuple(
            tuple(f"{leaf.name}/{role}:0" for leaf, role in places) for _name, places in listed if places
        ),
    )


def _of_keras1(config: dict[str, Any], weights: Weights, backend: str) -> H5Model:
    """Return the content of a file of Keras 1, which does not state its backend.

    The backend is guessed: channels first were Theano's convention, channels last TensorFlow's. The user can override
    the guess by the attribute ``backend`` in the file.
    """
    first = channels_first(config)
    turned = tuple((name, tuple(kernel_to_keras2(array, first) for array in arrays)) for name, arrays in weights)
    guess = "theano" if first else "tensorflow"
    return _of_theano(H5Model(to_keras2(config), turned, "2", backend or guess, guessed=not backend))


def _of_theano(model: H5Model) -> H5Model:
    """Return a model with Theano's kernels flipped in both axes: Theano convolves, all other backends correlate."""
    if model.backend != "theano":
        return model
    weights = tuple(
        (name, tuple(array[::-1, ::-1] if array.ndim == 4 else array for array in arrays))
        for name, arrays in model.weights
    )
    return replace(model, weights=weights, backend="tensorflow", theano=True)


def _refuse_code(config: Any) -> None:
    for layer in described_objects(config):
        # newer versions of Keras write Package>Name, which is read as Name
        if str(layer["class_name"]).rpartition(">")[2] in CODE:
            options = layer.get("config")
            name = options.get("name", "") if isinstance(options, dict) else ""
            raise ModelFormatError(f"its layer {name} is a Lambda layer, whose code would be run; save it without")
        options = layer.get("config")
        if isinstance(options, dict) and options.get("mode_type", "raw") != "raw":
            name = options.get("name", "")
            raise ModelFormatError(f"its layer {name} merges by code, as a Lambda layer would; save it without")


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
