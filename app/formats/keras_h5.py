"""A reader of Keras's ``.h5`` files, as Keras 1.2 to 2 save them: an architecture in JSON and each layer's weights.

The file has one group for each layer of the outermost model. An inner model is one such layer. Its group lists the
trainable arrays of all its layers first, then all the others, as ``model.weights`` does: kernels and biases, scales and
shifts, then the moving means and variances. Frozen arrays are among the others. So arrays are assigned in that order,
or by name if the names contain layers: ``Conv1/kernel:0``.

Format: the root has an attribute ``model_config`` (JSON); the group ``model_weights`` has the attributes
``layer_names``, ``backend`` and ``keras_version``, and a group for every layer with an attribute ``weight_names`` and
as many datasets. Attributes are bytes in files of h5py 2 and text in files of h5py 3; long lists are split into
``layer_names0``, ``layer_names1`` and so on.

A file of weights alone (``save_weights``) is such a group without ``model_config``. The architecture is then in a JSON
file beside it, as ``to_json`` writes it. Keras 1 writes no ``backend``.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.errors import ModelFormatError
from app.formats.hdf5 import Arrays, check_file, member
from app.formats.keras_graph import Leaf, Nested
from app.formats.keras_legacy import channels_first, is_keras1, kernel_to_keras2, to_keras2
from app.formats.lfs import refuse_pointer
from app.utils.json import parse_json, read_json

Slot = tuple[Leaf, str]
"""A place for an array: a layer and the array's role in it."""

_ROLES = {
    "Conv1D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
    "Conv2DTranspose": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "SimpleRNN": ("kernel", "recurrent_kernel", "bias"),
    "GRU": ("kernel", "recurrent_kernel", "bias"),
    "LSTM": ("kernel", "recurrent_kernel", "bias"),
    "PReLU": ("alpha",),
    "LayerScale": ("gamma",),
}
NORMALIZATIONS = ("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
_WORDS = {*(role for roles in _ROLES.values() for role in roles), "gamma", "beta", "moving_mean", "moving_variance"}


@dataclass(frozen=True)
class Group:
    """The arrays of one layer of the outermost model, with their names in the file."""

    name: str
    weight_names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]


def assign_weights(root: Nested, groups: Sequence[Group]) -> dict[Leaf, dict[str, NDArray[Any]]]:
    """Return every layer's arrays by role (``kernel``, ``bias``, ``gamma``, …).

    :param root: the outermost model.
    :param groups: the groups that have arrays, in file order.
    :raises ModelFormatError: if the number of a layer's arrays is wrong.
    """
    layers = [child for child in root.children if any(_slots(child))]
    if len(layers) != len(groups):
        raise ModelFormatError(f"it has {len(layers)} layers with weights, and holds those of {len(groups)}")
    by_name = {group.name: group for group in groups}
    # otherwise file order: weights alone may have the layer names of another session
    if {layer.name for layer in layers} == set(by_name):
        groups = [by_name[layer.name] for layer in layers]
    dealt: dict[Leaf, dict[str, NDArray[Any]]] = {}
    for layer, group in zip(layers, groups, strict=True):
        trained, others = _slots(layer)
        for (leaf, role), array in _match_slots(layer, [*trained, *others], group):
            dealt.setdefault(leaf, {})[role] = array
    return dealt


def _slots(layer: Leaf | Nested) -> tuple[list[Slot], list[Slot]]:
    """Return the trained and the other slots of a layer or model, each in Keras's order."""
    if isinstance(layer, Leaf):
        trained, others = roles(layer.class_name, layer.config)
        if layer.config.get("trainable") is False:
            trained, others = [], [*trained, *others]
        return [(layer, role) for role in trained], [(layer, role) for role in others]
    pairs = [_slots(child) for child in layer.children]
    trained_slots, other_slots = ([slot for pair in pairs for slot in pair[side]] for side in (0, 1))
    return (trained_slots, other_slots) if layer.trainable else ([], [*trained_slots, *other_slots])


def roles(class_name: str, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the roles of a layer's arrays: the trained ones, and the others."""
    if class_name in NORMALIZATIONS:
        return _affine(config), ["moving_mean", "moving_variance"]
    if class_name == "LayerNormalization":
        return _affine(config), []
    if class_name == "Normalization":
        return [], ["mean", "variance", "count"] if config.get("mean") is None else []
    if class_name in ("Bidirectional", "TimeDistributed"):
        inner = config.get("layer") or {}
        trained, others = roles(str(inner.get("class_name")), inner.get("config") or {})
        if class_name == "TimeDistributed":
            return trained, others
        return [f"{way}_{role}" for way in ("forward", "backward") for role in trained], []
    listed = _ROLES.get(class_name, ())
    return [role for role in listed if role != "bias" or config.get("use_bias", True)], []


def _affine(config: Mapping[str, Any]) -> list[str]:
    return [role for role, option in (("gamma", "scale"), ("beta", "center")) if config.get(option, True)]


def _match_slots(layer: Leaf | Nested, slots: list[Slot], group: Group) -> list[tuple[Slot, NDArray[Any]]]:
    if len(slots) != len(group.arrays):
        raise ModelFormatError(
            f"its {'layer' if isinstance(layer, Leaf) else 'model'} {layer.name} has {len(slots)} arrays of weights, "
            f"and the file holds {len(group.arrays)} for it"
        )
    named = [_split_name(name) for name in group.weight_names]
    places = {(leaf.name, role): (leaf, role) for leaf, role in slots}
    if len(places) == len(slots) and set(named) == set(places):
        return [(places[name], array) for name, array in zip(named, group.arrays, strict=True)]
    for (leaf, role), (_layer, word) in zip(slots, named, strict=False):
        if word in _WORDS and role in _WORDS and word != role:
            raise ModelFormatError(
                f"its layer {leaf.name} would get the array {word} of the file as its {role}: the weights lie in "
                "another order than Keras gives them"
            )
    return list(zip(slots, group.arrays, strict=True))


def _split_name(name: str) -> tuple[str, str]:
    """Split a weight's name into layer and role: ``block/Conv1/kernel:0`` is the ``kernel`` of ``block/Conv1``."""
    layer, _, word = name.partition(":")[0].rpartition("/")
    return layer, re.sub(r"_\d+$", "", word)


Weights = tuple[tuple[str, tuple[NDArray[Any], ...]], ...]

MODELS = ("Sequential", "Model", "Functional")
CODE = ("Lambda",)
"""Layers that contain code."""

MAX_METADATA = 2**16

BESIDE = ("{stem}.json", "{stem}_model.json", "{stem}-model.json", "{short}.json", "model.json", "architecture.json")
"""Possible names of the architecture for weights alone; ``short`` is the file's stem without ``weights``."""


@dataclass(frozen=True)
class H5Model:
    """The content of an ``.h5`` file. ``weights`` has only the layers with weights, in file order.

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
    try:
        document: Any = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("class_name") in MODELS and "config" in document


def read_h5(path: Path, architecture: Path | None = None) -> H5Model:
    """Read an ``.h5`` file without executing any of it.

    :param architecture: the model's description, if the file holds weights alone; by default the file beside it.
    :raises ModelFormatError: if the file cannot be read, holds weights alone without a description beside it, or holds
        a ``Lambda`` layer, which is code.
    """
    import h5py

    refuse_pointer(path)
    try:
        _refuse_archive(path)
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
    written_by = _text(group.attrs.get("keras_version", version))
    if written_by.startswith("3") or _is_keras3(config):
        raise ModelFormatError(_of_keras3(written_by, path))
    if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
        raise ModelFormatError(
            "its weights are not listed by layers, as Keras 1 and 2 list them: it was saved by save_weights() of Keras "
            "3, or under a name that ends in .weights.h5. Save all with model.save('model.h5') of Keras 2"
        )
    _refuse_code(config)
    arrays = Arrays(path.stat().st_size)
    layers = [(name, member(group, name)) for name in _names(group, "layer_names")]
    named = [(name, layer, tuple(_names(layer, "weight_names"))) for name, layer in layers]
    weights = tuple((name, tuple(arrays.take(layer, name) for name in names)) for name, layer, names in named if names)
    backend = _text(group.attrs.get("backend", ""))
    if is_keras1(config):
        model = _of_keras1(config, weights, backend)
    else:
        version = _text(group.attrs.get("keras_version", version or "2"))
        model = _of_theano(H5Model(config, weights, version, backend))
    return replace(model, weight_names=tuple(names for _name, _layer, names in named if names))


def _refuse_archive(path: Path) -> None:
    """Refuse a file of the ``.keras`` format, which is a zip, with a message for the Keras version in its metadata.

    :raises ModelFormatError: if the file is of that format.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as file:
            metadata: Any = parse_json(file.read(MAX_METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    if not version.startswith("2"):
        raise ModelFormatError(_of_keras3(version, path))
    raise ModelFormatError(
        f"it is of the .keras format of Keras {version}, which is not read. With the TensorFlow that wrote it, "
        f"tf.keras.models.load_model({path.name!r}).save({path.stem + '.h5'!r}) writes the format that is"
    )


def _is_keras3(config: Any) -> bool:
    """Return whether an architecture is in the format of Keras 3, which names an input's shape ``batch_shape``."""
    return any(isinstance(layer.get("config"), dict) and "batch_shape" in layer["config"] for layer in _layers(config))


def _of_keras3(version: str, path: Path) -> str:
    """Return instructions for a file of Keras 3, which exports ONNX since 3.8, from a model that was called once."""
    return (
        f"it was saved by Keras {version or 3}, and files of Keras 1.2 to 2 are read. Keras 3.8 or newer with tf2onnx "
        f"writes an ONNX file of it, which is read: model = keras.models.load_model({path.name!r}); "
        f"model(numpy.zeros((1, *model.input_shape[1:]))); model.export({path.stem + '.onnx'!r}, format='onnx')"
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
    for layer in _layers(config):
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


def _layers(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from _layers(value)
    elif isinstance(node, list):
        for value in node:
            yield from _layers(value)
