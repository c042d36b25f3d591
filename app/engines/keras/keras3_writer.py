"""Writing of Keras models as ``.keras`` files, which Keras 3 opens; :mod:`app.formats.keras_archive` has the format.

The architectures of Keras 2 are translated to Keras 3, the inverse of :mod:`app.formats.keras3_to_keras2`. Only options
that change what a layer computes at prediction are written; initializers and regularizers are not. Layers that augment
pictures in training become ``Identity``.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import app.engines.keras.convolutions
import app.engines.keras.resampling
import app.engines.keras.sequences  # noqa: F401
from app.engines.keras.explicit_padding import explicit_padding
from app.engines.keras.graph import Array, Net, Sides
from app.engines.keras.layers import IDENTITIES, KINDS, check
from app.engines.keras.network import compute_graph, turned, with_all_weights
from app.errors import ModelFormatError
from app.formats.archive.pack import zip_info
from app.formats.keras3_to_keras2 import HARD_SIGMOID
from app.formats.keras3_to_keras2 import OPTIONS as FROM_KERAS3
from app.formats.keras_archive import CONFIG, METADATA, WEIGHTS, array_places, group_name
from app.formats.keras_file import H5Model
from app.formats.keras_graph import CONSTANT, MODELS, Leaf, Nested, is_operation, read_graph
from app.formats.keras_weights import NORMALIZATIONS, assign_weights

VERSION = "3.0.0"
"""The oldest Keras that opens the files."""


def write_keras3(model: H5Model, path: Path, input_shape: tuple[int, ...] | None = None, output: str = "") -> None:
    """Write a model as a ``.keras`` file.

    :param input_shape: shape of the input with the batch axis, for sizes that the file leaves open.
    :param output: the name of the output to use if there are several.
    :raises ModelFormatError: if a layer cannot be expressed in Keras 3, or the weights do not fit the layers.
    """
    over_mxnet = model.backend == "mxnet"
    config = with_all_weights(model.config) if over_mxnet else model.config
    graph = read_graph(config, output)
    _refuse_older(model, graph.root.leaves())
    arrays: Mapping[Leaf, Mapping[str, Array]] = assign_weights(graph.root, model.groups)
    if over_mxnet:
        arrays = {leaf: turned(leaf, roles) for leaf, roles in arrays.items()}
    padding: dict[Leaf, Sides] = {}
    if over_mxnet or model.theano:
        net = Net(model.keras_version, theano=model.theano, mxnet=over_mxnet)
        padding = explicit_padding(net, graph, compute_graph(net, graph, arrays, input_shape)[1])
    if over_mxnet:
        arrays = {leaf: _over_tensorflow(leaf, roles) for leaf, roles in arrays.items()}
    writer = Keras3Writer(arrays, padding)
    described = writer.model(config, graph.root, graph.input_shape)
    parts = {
        METADATA: json.dumps({"keras_version": VERSION}).encode(),
        CONFIG: json.dumps(described).encode(),
        WEIGHTS: _stored(writer.groups),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zip_info(name, zipfile.ZIP_STORED), content)


def _over_tensorflow(leaf: Leaf, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return a layer's arrays without the scale that Keras-MXNet ignores."""
    if leaf.class_name in NORMALIZATIONS:
        return {**arrays, "gamma": np.ones_like(arrays["gamma"])}
    return arrays


def _refuse_older(model: H5Model, leaves: Any) -> None:
    net = Net(model.keras_version)
    for leaf in leaves:
        method = leaf.config.get("interpolation") or "nearest"
        if leaf.class_name == "UpSampling2D" and method != "nearest" and net.before(2, 4):
            raise ModelFormatError(
                f"its layer {leaf.name} has the interpolation {method!r} of Keras {model.keras_version}, which Keras 3 "
                "does not have. Export it with --to onnx"
            )


def _stored(groups: Mapping[str, list[Array]]) -> bytes:
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, arrays in groups.items():
            group = file.require_group(path)
            for number, array in enumerate(arrays):
                group.create_dataset(str(number), data=array)
    return content.getvalue()


LONG_NAMES = {
    **dict.fromkeys(NORMALIZATIONS, "BatchNormalization"),
    **{f"{how}MaxPool{axes}": f"{how}MaxPooling{axes}" for how in ("", "Global") for axes in ("1D", "2D")},
    **{f"{how}AvgPool{axes}": f"{how}AveragePooling{axes}" for how in ("", "Global") for axes in ("1D", "2D")},
    "FixedDropout": "Dropout",
}
"""The names in Keras 3 of layers that had others."""
RATES = {
    **dict.fromkeys(("Dropout", "FixedDropout", "GaussianDropout", "AlphaDropout"), "rate"),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), "rate"),
    "GaussianNoise": "stddev",
}
"""The option of layers that draw random numbers in training; Keras 3 stores the generator's state with the weights."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "LSTM": {"recurrent_activation": "hard_sigmoid"},
    "GRU": {"recurrent_activation": "hard_sigmoid", "reset_after": False},
}
"""Meanings of absent options in Keras 2 that Keras 3 changed."""
APPLICATIONS = {
    "LayerScale": ("keras.src.applications.convnext", ("projection_dim", "init_values")),
    "StochasticDepth": ("keras.src.applications.convnext", ("drop_path_rate",)),
    "CustomScaleLayer": ("keras.src.applications.inception_resnet_v2", ("scale",)),
}
"""Modules and options of the layers that ``keras.applications`` has for itself."""
TO_KERAS3 = {kind: {old: new for new, old in renamed.items()} for kind, renamed in FROM_KERAS3.items()}
ACTIVATIONS = {
    **{"softmax_v2": "softmax", "swish": "silu", "hard_swish": "hard_silu", HARD_SIGMOID: "hard_sigmoid"},
    **{name: name for name in ("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softmax")},
    **{name: name for name in ("exponential", "softplus", "softsign", "hard_silu", "silu", "gelu", "mish")},
}
"""Keras 3's names of activations; the older ``hard_sigmoid`` has none."""
SEED = np.array([0, 1337], np.uint32)
"""The state of a generator of random numbers, which prediction does not use."""


class Keras3Writer:
    """A translator of one model.

    ``groups`` has the arrays of the groups of the weights by their paths, such as ``layers/conv2d/vars``.
    """

    def __init__(self, arrays: Mapping[Leaf, Mapping[str, Array]], padding: Mapping[Leaf, Sides] | None = None) -> None:
        """Begin a model.

        :param arrays: every layer's arrays by role, as TensorFlow's.
        :param padding: the layers that need a layer of padding before them.
        """
        self._arrays = arrays
        self._padding = padding or {}
        self.groups: dict[str, list[Array]] = {"vars": []}

    def model(self, node: Mapping[str, Any], model: Nested, input_shape: Sequence[int | None] = ()) -> dict[str, Any]:
        """Translate the outermost model.

        :param model: the same model's layers.
        :param input_shape: the input's shape with the batch axis, for a Sequential that does not say it.
        :raises ModelFormatError: if a layer cannot be expressed.
        """
        return self._model(node, model, "", _plain_name(model.name), list(input_shape))

    def _model(
        self, node: Mapping[str, Any], model: Nested, path: str, name: str, input_shape: list[int | None]
    ) -> dict[str, Any]:
        options = node["config"] if isinstance(node["config"], dict) else {"layers": node["config"]}
        layers, counted = options["layers"], Counter[str]()
        names = _names([str(layer.get("name") or layer["config"]["name"]) for layer in layers])
        written: list[tuple[Any, dict[str, Any], list[dict[str, Any]]]] = []
        for layer, child in zip(layers, model.children, strict=True):
            own = names[str(layer.get("name") or layer["config"]["name"])]
            before = []
            if isinstance(child, Leaf) and child in self._padding:
                before = [self._padding_layer(child, path, _unused(f"{own}_padding", names), counted)]
            written.append((layer, {**self._child(layer, child, path, own, counted), "name": own}, before))
        made: list[dict[str, Any]] = []
        first = {} if model.class_name == "Sequential" else _first_nodes(layers, options)
        for layer, described, before in written:
            calls = [_call(described, data, names, first) for data in layer.get("inbound_nodes") or []]
            for added in before:
                made.append({**added, "inbound_nodes": calls})
                calls = [_arguments([[added["name"], number, 0]]) for number in range(len(calls))]
            made.append({**described, "inbound_nodes": calls})
        config: dict[str, Any] = {"name": name, "trainable": model.trainable}
        if model.class_name == "Sequential":
            inner = [{key: value for key, value in layer.items() if key != "inbound_nodes"} for layer in made]
            config["layers"] = [*_input_layer(layers, input_shape), *inner]
            return _described("Sequential", config, "keras")
        config["layers"] = made
        for side in ("input_layers", "output_layers"):
            config[side] = _ends(options[side], names, first, layers)
        return _described("Functional", config, "keras.src.models.functional", "Functional")

    def _child(
        self, node: Mapping[str, Any], child: Leaf | Nested, path: str, name: str, counted: Counter[str]
    ) -> dict[str, Any]:
        if isinstance(child, Nested):
            group = _group(path, child.class_name, counted)
            self.groups[f"{group}/vars"] = []
            return self._model(node, child, group, name, [])
        described = _layer(child, name)
        if child in self._padding:
            described["config"]["padding"] = "valid"
        group = _group(path, described["class_name"], counted)
        self.groups[f"{group}/vars"] = []
        if child.class_name in RATES:
            self.groups[f"{group}/seed_generator/vars"] = [SEED]
        for place, listed in array_places(child).items():
            self.groups[f"{group}/{place}"] = [self._arrays[child][role] for role in listed]
        return described

    def _padding_layer(self, padded: Leaf, path: str, name: str, counted: Counter[str]) -> dict[str, Any]:
        """Return the description of the layer that pads the input of another."""
        self.groups[f"{_group(path, 'ZeroPadding2D', counted)}/vars"] = []
        config = {
            "name": name,
            "padding": [list(lines) for lines in self._padding[padded]],
            "data_format": padded.config.get("data_format") or "channels_last",
        }
        return {**_described("ZeroPadding2D", config, "keras.layers"), "name": name}


def _group(path: str, class_name: str, counted: Counter[str]) -> str:
    return f"{path}/layers/{group_name(class_name, counted)}".lstrip("/")


def _plain_name(name: str) -> str:
    return name.replace("/", "_")  # Keras 3 takes it for a path


def _names(keys: Sequence[str]) -> dict[str, str]:
    """Return the names of layers in Keras 3 by those in Keras 2."""
    made: dict[str, str] = {}
    for key in keys:
        made[key] = _unused(_plain_name(key), made)
    return made


def _unused(name: str, names: Mapping[str, str]) -> str:
    while name in names.values():
        name += "_"
    return name


def _described(class_name: str, config: dict[str, Any], module: str, registered: str | None = None) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered}


def _input_layer(layers: Sequence[Mapping[str, Any]], input_shape: list[int | None]) -> list[dict[str, Any]]:
    """Return the description of a Sequential's input, if none of its layers is that."""
    first = layers[0]
    options = first["config"] if isinstance(first.get("config"), dict) else {}
    if first.get("class_name") == "InputLayer":
        return []
    shape = options.get("batch_input_shape") or input_shape
    if not shape:
        return []
    config = {"batch_shape": list(shape), "dtype": "float32", "name": f"{_plain_name(str(options.get('name')))}_input"}
    return [_described("InputLayer", config, "keras.layers")]


def _first_nodes(layers: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of each inner model's first node in Keras 2."""
    models = {str(layer.get("name")) for layer in layers if layer.get("class_name") in MODELS}
    found = dict.fromkeys(models, 1)
    used = [entry for layer in layers for data in layer.get("inbound_nodes") or [] for entry in data]
    for name, number, *_rest in (*used, *_listed(options["output_layers"])):
        if name in found:
            found[name] = min(found[name], int(number))
    return found


def _listed(ends: Any) -> list[Any]:
    listed = list(ends.values()) if isinstance(ends, Mapping) else ends
    return [listed] if listed and isinstance(listed[0], str) else list(listed)


def _ends(ends: Any, names: Mapping[str, str], first: Mapping[str, int], layers: Any) -> list[Any]:
    functional = {layer.get("name") for layer in layers if layer.get("class_name") in MODELS[1:]}
    made = [
        [names[name], int(number) - first.get(name, 0) + (name in functional), int(tensor)]
        for name, number, tensor in _listed(ends)
    ]
    return made[0] if len(made) == 1 else made


def _call(
    described: Mapping[str, Any], data: Sequence[Any], names: Mapping[str, str], first: Mapping[str, int]
) -> dict[str, Any]:
    places = []
    for name, number, tensor, *options in data:
        given = {key: value for key, value in (options[0] if options else {}).items() if value not in (None, False, 0)}
        if name == CONSTANT or given:
            raise ModelFormatError(
                f"its layer {described['name']} is called with {', '.join(given) or 'a constant'}, which is not written"
            )
        places.append([names[name], int(number) - first.get(name, 0), int(tensor)])
    return _arguments(places)


def _arguments(places: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the description of a call with the tensors of some layers."""
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": list(place)},
        }
        for place in places
    ]
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": {}}


def _layer(leaf: Leaf, name: str) -> dict[str, Any]:
    """Return the description of a layer that is not a model."""
    config, kind = leaf.config, leaf.class_name.rpartition(">")[2]
    if is_operation(leaf):
        raise ModelFormatError(
            f"its layer {leaf.name} is the operation {config.get('function') or leaf.class_name} of TensorFlow, which "
            "is not written. Export it with --to onnx"
        )
    own: dict[str, Any] = {"name": name, "trainable": config.get("trainable") is not False}
    if kind == "InputLayer":
        dtype = config.get("dtype") or "float32"
        return _described(
            kind, {"batch_shape": config["batch_input_shape"], "dtype": dtype, "name": name}, "keras.layers"
        )
    if kind in RATES:
        rate = config.get(RATES[kind], 0.0)
        # SpatialDropout2D takes no "trainable"
        return _described(LONG_NAMES.get(kind, kind), {"name": name, RATES[kind]: rate}, "keras.layers")
    if kind in IDENTITIES:
        return _described("Identity", own, "keras.layers")
    if kind in APPLICATIONS:
        module, kept = APPLICATIONS[kind]
        return _described(kind, {**own, **{key: config[key] for key in kept}}, module, kind)
    try:
        kind, options = _options(kind, config)
    except ModelFormatError as error:
        raise ModelFormatError(f"its layer {leaf.name}: {error}") from None
    return _described(kind, {**own, **options}, "keras.layers")


def _options(kind: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a layer's kind and its own options in Keras 3."""
    if kind == "ThresholdedReLU":
        return "ReLU", {"threshold": config.get("theta", 1.0)}
    check(kind, config)
    given = {**DEFAULTS.get(kind, {}), **config}
    known, renamed = KINDS[kind].options, TO_KERAS3.get(kind, {})
    made = {renamed.get(key, key): value for key, value in given.items() if key in known}
    made |= {key: _activation(made[key]) for key in ("activation", "recurrent_activation") if key in made}
    if "data_format" in known:
        made["data_format"] = config.get("data_format") or "channels_last"
    if kind in (*NORMALIZATIONS, "LayerNormalization", "Softmax") and isinstance(made.get("axis"), list):
        made["axis"] = made["axis"][0]
    if "layer" in made:
        inner = made["layer"]
        made["layer"] = _layer(
            Leaf(str(inner["config"].get("name")), inner["class_name"], inner["config"]), inner["config"]["name"]
        )
    return LONG_NAMES.get(kind, kind), made


def _activation(value: Any) -> Any:
    if value is None:
        return "linear"
    if isinstance(value, Mapping):
        inner, kind = value.get("config"), str(value["class_name"])
        if isinstance(inner, str):
            return _activation(inner)
        kind, options = _options(kind, inner or {})
        return _described(kind, options, "keras.layers")
    if value not in ACTIVATIONS:
        raise ModelFormatError(
            f"it has the activation {value!r}, which Keras 3 does not have. Export it with --to onnx"
        )
    return ACTIVATIONS[value]
