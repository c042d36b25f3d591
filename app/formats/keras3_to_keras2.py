"""Translation of the architectures of Keras 3 to Keras 2.

Format: layers are described by ``{"module", "class_name", "config", "registered_name", "build_config"}``; values that
JSON does not have are objects of that form, too, such as ``__slice__`` and ``__numpy__``. A call of a layer is
``{"args", "kwargs"}``, in which a tensor is a ``__keras_tensor__`` with its ``keras_history``: layer, node, tensor.
Nodes of inner functional models count from 0 there, but from 1 in ``output_layers``. An operation, such as
``x / 255``, is among the layers; its module is ``keras.src.ops``, or it has no ``trainable`` in an ``.h5`` file, which
lists no modules.

``hard_sigmoid`` was ``clip(0.2 x + 0.5, 0, 1)`` until Keras 2, and is ``relu6(x + 3) / 6`` since Keras 3. The
translation has another name for the newer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import ModelFormatError
from app.formats.keras_graph import CONSTANT, MODELS, described_objects

ACTIVATIONS = ("activation", "recurrent_activation")
HARD_SIGMOID = "hard_sigmoid of Keras 3"
OPTIONS = {"InputLayer": {"batch_shape": "batch_input_shape"}, "LeakyReLU": {"negative_slope": "alpha"}}
"""Options that Keras 3 renamed, by the kind of layer."""
ABSENT = ("lora_rank", "lora_alpha", "quantization_config", "noise_shape", "gptq_unpacked_column_size")
"""Options without a meaning if they are null."""
VALUES = ("__numpy__", "__tensor__", "__bytes__")
OPERATIONS_MODULES = ("keras.src.ops", "keras.ops")


@dataclass(frozen=True)
class Operation:
    """An operation of Keras 3 in TensorFlow's terms.

    ``rest`` maps its parameters after the first, in order, and ``options`` its options; both to TensorFlow's names.
    """

    function: str
    rest: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


_TWO = {"x2": "y"}
_REDUCED = {"axis": "axis", "keepdims": "keepdims"}
OPERATIONS = {
    **{name: Operation(f"math.{name.lower()}", _TWO) for name in ("Add", "Subtract", "Multiply", "Divide")},
    **{name: Operation(f"math.{name.lower()}", _TWO) for name in ("Maximum", "Minimum")},
    "TrueDivide": Operation("math.divide", _TWO),
    "Power": Operation("math.pow", _TWO),
    **{name: Operation(f"math.{name.lower()}") for name in ("Sigmoid", "Tanh", "Softplus", "Exp", "Log", "Sqrt")},
    **{name: Operation(f"math.{name.lower()}") for name in ("Square", "Abs", "Negative")},
    "Absolute": Operation("math.abs"),
    **{name: Operation(f"nn.{name.lower()}") for name in ("Relu", "Relu6", "Elu", "Selu", "Silu", "Softsign", "Mish")},
    "HardSigmoid": Operation("nn.hard_sigmoid"),
    "HardSilu": Operation("nn.hard_silu"),
    "HardSwish": Operation("nn.hard_silu"),
    "LeakyRelu": Operation("nn.leaky_relu", {}, {"negative_slope": "alpha"}),
    "Gelu": Operation("nn.gelu", {}, {"approximate": "approximate"}),
    "Softmax": Operation("nn.softmax", {}, {"axis": "axis"}),
    **{name: Operation(f"math.reduce_{name.lower()}", {}, _REDUCED) for name in ("Mean", "Sum", "Max", "Min")},
    "Reshape": Operation("reshape", {}, {"newshape": "shape"}),
    "ExpandDims": Operation("expand_dims", {}, {"axis": "axis"}),
    "Squeeze": Operation("squeeze", {}, {"axis": "axis"}),
    "Transpose": Operation("transpose", {}, {"axes": "perm"}),
    "Concatenate": Operation("concat", {}, {"axis": "axis"}),
    "Cast": Operation("cast", {}, {"dtype": "dtype"}),
    "Clip": Operation(
        "clip_by_value",
        {"x_min": "clip_value_min", "x_max": "clip_value_max"},
        {"x_min": "clip_value_min", "x_max": "clip_value_max"},
    ),
    "Pad": Operation("pad", {"constant_values": "constant_values"}, {"pad_width": "paddings", "mode": "mode"}),
    "Resize": Operation("image.resize", {}, {"size": "size", "interpolation": "method", "antialias": "antialias"}),
    "Stack": Operation("stack", {}, {"axis": "axis"}),
    "GetItem": Operation("__operators__.getitem", {"key": "slice_spec"}),
}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"name": (), "dtype": (), "fill_mode": (), "fill_value": (), "data_format": (None, "channels_last")},
    **{"crop_to_aspect_ratio": (False,), "pad_to_aspect_ratio": (False,)},
}
"""Options of operations that change nothing if they have one of these values; no values permit all."""


def is_keras3(config: Any) -> bool:
    """Return whether an architecture is in the format of Keras 3."""
    for node in described_objects(config):
        options, calls = node.get("config"), node.get("inbound_nodes")
        if isinstance(options, dict) and "batch_shape" in options:
            return True
        if isinstance(calls, list) and any(isinstance(call, dict) and "args" in call for call in calls):
            return True
    return False


def to_keras2(config: Any, is_older: bool = False) -> dict[str, Any]:
    """Translate the description of a model, ``{"class_name", "config", …}``.

    :param is_older: whether Keras 2 wrote it, which has the layers of Keras 2 in this form in its ``.keras`` files.
    :raises ModelFormatError: if it is damaged, or has something that Keras 2 cannot express.
    """
    try:
        made = _rewrite(config)
        return made if is_older else _replaced(made)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # JSON of any shape
        raise ModelFormatError(
            f"its architecture does not describe layers as Keras 3 does: {type(error).__name__}: {error}"
        ) from None


def _replaced(node: Any) -> Any:
    """Return an architecture with the newer ``hard_sigmoid`` under a name of its own."""
    if isinstance(node, list):
        return [_replaced(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _replaced(value) for key, value in node.items()}
    return made | {key: HARD_SIGMOID for key in ACTIVATIONS if made.get(key) == "hard_sigmoid"}


def _rewrite(node: Any) -> dict[str, Any]:
    """Translate the description of a model or a layer, without the calls."""
    name, options = _class_name(node), node.get("config")
    if name in MODELS:
        return {"class_name": name, "config": _model(node)}
    if not isinstance(options, dict):
        raise ModelFormatError(f"its layer {name} has no options")
    if _is_operation(node):
        name = str(options.get("name") or node.get("name"))
        return {"class_name": "TFOpLambda", "config": {"name": name, "function": _known(node).function}}
    return {"class_name": name, "config": _options(name, options)}


def _class_name(node: Any) -> str:
    return str(node.get("class_name")).rpartition(">")[2]  # registered layers are called Package>Name


def _is_operation(node: Any) -> bool:
    module, options = node.get("module"), node.get("config")
    if module is not None or _class_name(node) == "InputLayer":
        return str(module).startswith(OPERATIONS_MODULES)
    return _class_name(node) in OPERATIONS and isinstance(options, dict) and "trainable" not in options


def _known(node: Any) -> Operation:
    name = _class_name(node)
    if name not in OPERATIONS:
        raise ModelFormatError(f"its layer {node.get('name')} is the operation {name} of Keras 3, which is not known")
    return OPERATIONS[name]


def _model(node: Any) -> dict[str, Any]:
    options = node.get("config")
    layers = options.get("layers") if isinstance(options, dict) else None
    if not isinstance(layers, list):
        raise ModelFormatError("its architecture describes no layers")
    functional = {str(layer.get("name")) for layer in layers if _class_name(layer) in MODELS[1:]}
    by_name = {str(layer.get("name")): layer for layer in layers}
    made = {**options, "layers": [_layer(_with_slice(layer, by_name), functional) for layer in layers]}
    built = node.get("build_config")
    if isinstance(built, dict) and not options.get("build_input_shape"):
        made["build_input_shape"] = built.get("input_shape")
    return made


def _with_slice(node: Any, layers: Mapping[str, Any]) -> Any:
    """Return an operation that turns the channels around as ``x[..., ::-1]``, and any other layer unchanged.

    ``preprocess_input`` of Keras 3 writes ``stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1)``.
    """
    if not _is_operation(node) or _class_name(node) != "Stack" or node["config"].get("axis") != -1:
        return node
    parts = [layers[item["config"]["keras_history"][0]] for item in node["inbound_nodes"][0]["args"][0]]
    if any(_class_name(part) != "GetItem" for part in parts):
        return node
    calls = [part["inbound_nodes"][0]["args"] for part in parts]
    sources = [call[0]["config"] for call in calls]
    keys = [[{"class_name": "__ellipsis__", "config": {}}, place] for place in reversed(range(len(parts)))]
    if any(source != sources[0] for source in sources) or [call[1] for call in calls] != keys:
        return node
    if sources[0]["shape"][-1] != len(parts):
        return node
    around = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": -1}}
    call = {"args": [calls[0][0], [keys[0][0], around]], "kwargs": {}}
    return {**node, "class_name": "GetItem", "config": {"name": node.get("name")}, "inbound_nodes": [call]}


def _layer(node: Any, functional: set[str]) -> dict[str, Any]:
    """Translate the description of a layer with its calls.

    :param functional: the names of the functional models beside it.
    """
    made, calls = _rewrite(node), node.get("inbound_nodes")
    if "name" in node:
        made["name"] = node["name"]
    if calls is not None:
        call = _operation_call if _is_operation(node) else _layer_call
        made["inbound_nodes"] = [
            call(node, data, functional) if isinstance(data, Mapping) and "args" in data else data for data in calls
        ]
    return made


def _layer_call(node: Any, data: Mapping[str, Any], functional: set[str]) -> list[Any]:
    arguments, named = _arguments(data, functional)
    options = {key: value for key, value in named.items() if value is not None and (key, value) != ("training", False)}
    if not arguments and (first := next((key for key, value in options.items() if _is_tensor(value)), None)):
        arguments = [options.pop(first)]
    inputs = [item for argument in arguments for item in _flat(argument)]
    if not inputs or any(isinstance(item, Mapping) for item in inputs):
        raise ModelFormatError(f"its layer {node.get('name')} is called with inputs by name, which is not supported")
    entries = [item if _is_tensor(item) else [CONSTANT, -1, item] for item in inputs if item is not None]
    entries[0] = [*entries[0], options]
    return entries


def _operation_call(node: Any, data: Mapping[str, Any], functional: set[str]) -> list[Any]:
    """Translate a call of an operation to Keras 2's one entry without a list around it."""
    known, (arguments, named) = _known(node), _arguments(data, functional)
    if not arguments:  # the first parameter is called x, x1, xs or images
        arguments = [named.pop(next(key for key in named if key not in known.rest))]
    values = {**dict(zip(known.rest, arguments[1:], strict=False)), **named}
    if len(arguments) > 1 + len(known.rest):
        raise ModelFormatError(f"its layer {node.get('name')} takes {len(arguments)} arguments, which is not known")
    options = {known.rest.get(key, key): value for key, value in values.items() if value is not None}
    options |= {
        known.options.get(key, key): _plain(value)
        for key, value in node["config"].items()
        if value is not None and (key in known.options or not _is_neutral(key, value))
    }
    if options.get("alpha") == 1.0 and known.function == "nn.elu":
        del options["alpha"]
    first = arguments[0]
    if isinstance(first, list) and not _is_tensor(first):
        entries = [item if _is_tensor(item) else [CONSTANT, -1, item] for item in first]
        return [[*entries[0], options], *entries[1:]]
    return [*(first if _is_tensor(first) else [CONSTANT, -1, first]), options]


def _is_neutral(option: str, value: Any) -> bool:
    return option in NEUTRAL and (not NEUTRAL[option] or value in NEUTRAL[option])


class _Tensor(list[Any]):
    """A tensor in Keras 2's notation, ``[layer, node, tensor]``."""


def _is_tensor(value: Any) -> bool:
    return isinstance(value, _Tensor)


def _arguments(data: Mapping[str, Any], functional: set[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call by their places and by their names, with tensors in Keras 2's notation."""

    def value(item: Any) -> Any:
        if isinstance(item, list):
            return [value(inner) for inner in item]
        if isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            name, number, tensor = item["config"]["keras_history"]
            return _Tensor([str(name), int(number) + (name in functional), int(tensor)])
        if isinstance(item, dict) and "class_name" not in item:
            return {key: value(inner) for key, inner in item.items()}
        return _plain(item)

    return value(list(data["args"])), value(dict(data.get("kwargs") or {}))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list) and not _is_tensor(value):
        return [item for inner in value for item in _flat(inner)]
    return [value]


def _plain(value: Any) -> Any:
    """Return a value without Keras 3's objects around numbers, slices and functions."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    name, options = str(value.get("class_name")), value.get("config")
    if name in VALUES and isinstance(options, dict):
        return options["value"]
    if name == "__slice__" and isinstance(options, dict):
        return {key: options.get(key) for key in ("start", "stop", "step")}
    if name == "function":
        return options
    return value


def _options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Translate the options of a layer."""
    renamed = OPTIONS.get(name, {})
    made = {
        renamed.get(key, key): _plain(value) for key, value in options.items() if not (key in ABSENT and value is None)
    }
    if isinstance(made.get("dtype"), dict):
        made["dtype"] = _dtype(options)
    for key in ACTIVATIONS:
        if key in made:
            made[key] = _rewrite(made[key]) if isinstance(made[key], dict) else made[key]
    if isinstance(made.get("layer"), dict):
        made["layer"] = _rewrite(made["layer"])
        backward = made.get("backward_layer")
        if isinstance(backward, dict) and _but_direction(_rewrite(backward)) == _but_direction(made["layer"]):
            del made["backward_layer"]
    return made


def _but_direction(layer: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a recurrent layer's description that both directions have in common."""
    own = ("name", "go_backwards", "dtype")
    config = {k: v for k, v in layer["config"].items() if k not in own and not k.endswith("_initializer")}
    return {**layer, "config": config}


def _dtype(options: dict[str, Any]) -> str:
    policy = options["dtype"].get("config")
    name = str(policy.get("name") if isinstance(policy, dict) else policy)
    if name.startswith(("int", "float8")):
        raise ModelFormatError(
            f"its layer {options.get('name')} is quantized ({name}), which is not read; save it before quantize()"
        )
    return name
