"""TensorFlow operations on Keras tensors, as MXNet operations.

Keras saves ``x / 127.5 - 1`` in a network as two layers ``TFOpLambda`` with the operation's name, and ``x[..., ::-1]``
as a ``SlicingOpLambda``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.engines.keras.graph import ELEMENTWISE, Array, Net, Value, add, along, gelu, pad, relu, reshape, softmax
from app.engines.keras.layers import combine, concatenate
from app.engines.keras.resampling import resize
from app.engines.keras.symbol import apply, operation, with_number
from app.errors import ModelFormatError
from app.formats.keras_graph import Leaf

Operation = Callable[..., Value]


@dataclass(frozen=True)
class _Known:
    compute: Operation
    parameters: tuple[str, ...]
    takes_whole: bool = False


_OPERATIONS: dict[str, _Known] = {}


def _operation(names: str, parameters: str = "x", takes_whole: bool = False) -> Callable[[Operation], Operation]:
    """Register a function for some operations, with the names of its parameters in TensorFlow's order."""

    def register(compute: Operation) -> Operation:
        known = _Known(compute, tuple(parameters.split()), takes_whole)
        _OPERATIONS.update(dict.fromkeys(names.split(), known))
        return compute

    return register


def compute_operation(net: Net, leaf: Leaf, arguments: Sequence[Any], options: Mapping[str, Any]) -> Value:
    """Compute an operation.

    :param arguments: values, constants, and lists of them.
    :raises ModelFormatError: if the operation or an argument is unknown.
    """
    name = str(leaf.config.get("function"))
    known = _OPERATIONS.get(name)
    if known is None:
        raise ModelFormatError(f"it is the operation tf.{name} of TensorFlow, which is not known")
    bound = dict(zip(known.parameters, arguments, strict=False)) | dict(options)
    if strange := [key for key in bound if key not in known.parameters] or len(arguments) > len(known.parameters):
        raise ModelFormatError(f"it is the operation tf.{name} with {strange}, which is not known")
    values = [item for item in _flat(list(bound.values())) if isinstance(item, Value)]
    if not known.takes_whole and any(value.whole for value in values):
        raise ModelFormatError(f"it computes tf.{name} of whole numbers; cast them to float32 first")
    return known.compute(net, **bound)


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in (_flat(value) if isinstance(value, list) else [value])]


# arithmetic


def _binary(symbols: Callable[[Any, Any], Any], constants: Callable[[Any, Any], Any]) -> Operation:
    """Combine two arguments, of which one may be a constant."""

    def compute(net: Net, x: Any, y: Any, name: Any = None) -> Value:
        if isinstance(x, Value) and isinstance(y, Value):
            return combine(symbols, x, y)
        value = x if isinstance(x, Value) else y
        if not isinstance(value, Value):
            raise ModelFormatError("it computes constants alone")
        numbers = _numbers(y if value is x else x)
        if numbers.ndim == 0:
            pair = [item.symbol if isinstance(item, Value) else float(numbers) for item in (x, y)]
            return replace(value, symbol=constants(*pair))
        pair = [item.symbol if isinstance(item, Value) else net.row(value, numbers) for item in (x, y)]
        return replace(value, symbol=symbols(*pair))

    return compute


def _numbers(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ModelFormatError(f"it computes with {value!r}, which is no number")
    return array


for _names, _symbols, _constants in (
    ("__operators__.add math.add", operation("broadcast_add"), lambda x, y: x + y),
    ("__operators__.sub math.subtract", operation("broadcast_sub"), lambda x, y: x - y),
    ("__operators__.mul math.multiply", operation("broadcast_mul"), lambda x, y: x * y),
    ("__operators__.truediv math.truediv math.divide", operation("broadcast_div"), lambda x, y: x / y),
    ("math.maximum", operation("broadcast_maximum"), with_number("_maximum_scalar")),
    ("math.minimum", operation("broadcast_minimum"), with_number("_minimum_scalar")),
):
    _operation(_names, "x y name")(_binary(_symbols, _constants))


@_operation("math.pow __operators__.pow", "x y name")
def _power(net: Net, x: Any, y: Any, name: Any = None) -> Value:
    if not isinstance(x, Value) or not isinstance(y, int | float):
        raise ModelFormatError("it raises to a power that is no number")
    return replace(x, symbol=x.symbol ** float(y))


def _elementwise(compute: Callable[[Any], Any]) -> Operation:
    return lambda net, x, name=None: replace(x, symbol=compute(x.symbol))


for _function, _compute in {
    "math.negative __operators__.neg": lambda x: x * -1.0,
    "math.abs __operators__.abs": operation("abs"),
    **{f"math.{name}": operation(name) for name in ("square", "sqrt", "exp", "log", "tanh", "sigmoid")},
    "math.softplus": ELEMENTWISE["softplus"],
    "nn.relu": relu,
    "nn.relu6": lambda x: relu(x, 6.0),
    **{f"nn.{name}": ELEMENTWISE[name] for name in ("elu", "selu", "softsign", "mish", "hard_silu")},
    "nn.hard_sigmoid": ELEMENTWISE["hard_sigmoid of Keras 3"],
    "identity stop_gradient": lambda x: x,
}.items():
    _operation(_function, "x name")(_elementwise(_compute))


@_operation("nn.silu nn.swish", "features beta name")
def _swish(net: Net, features: Value, beta: float = 1.0, name: Any = None) -> Value:
    return replace(features, symbol=features.symbol * apply("sigmoid", features.symbol * float(beta)))


@_operation("nn.leaky_relu", "features alpha name")
def _leaky_relu(net: Net, features: Value, alpha: float = 0.2, name: Any = None) -> Value:
    return replace(features, symbol=relu(features.symbol, negative_slope=float(alpha)))


@_operation("nn.gelu", "features approximate name")
def _gelu(net: Net, features: Value, approximate: bool = False, name: Any = None) -> Value:
    return replace(features, symbol=gelu(features.symbol, bool(approximate)))


@_operation("nn.softmax", "logits axis name")
def _softmax(net: Net, logits: Value, axis: int | None = None, name: Any = None) -> Value:
    return softmax(logits, -1 if axis is None else int(axis))


@_operation("clip_by_value", "t clip_value_min clip_value_max name")
def _clip(net: Net, t: Value, clip_value_min: float, clip_value_max: float, name: Any = None) -> Value:
    return replace(t, symbol=apply("clip", t.symbol, a_min=float(clip_value_min), a_max=float(clip_value_max)))


@_operation("nn.bias_add", "value bias data_format name")
def _bias_add(net: Net, value: Value, bias: Any, data_format: str | None = None, name: Any = None) -> Value:
    if isinstance(bias, Value):
        raise ModelFormatError("it adds a bias that is computed")
    row = np.asarray(bias, np.float32)
    if data_format and data_format.startswith("NC") and len(value.shape) > 1:
        row = row.reshape(-1, *[1] * (len(value.shape) - 1))
    return add(net, value, row)


@_operation("cast", "x dtype name", takes_whole=True)
def _cast(net: Net, x: Value, dtype: Any, name: Any = None) -> Value:
    if str(dtype) not in ("float32", "float64", "float16", "bfloat16"):
        raise ModelFormatError(f"it casts to {dtype}, which cannot be computed")
    return replace(x, whole=False)


# shapes


@_operation("expand_dims", "input axis name", takes_whole=True)
def _expand_dims(net: Net, input: Value, axis: int, name: Any = None) -> Value:
    place = int(axis) + (len(input.shape) + 2 if axis < 0 else 0)
    if not 0 < place <= len(input.shape) + 1:
        raise ModelFormatError(f"it adds the axis {axis} to {(None, *input.shape)}")
    return reshape(input, (*input.shape[: place - 1], 1, *input.shape[place - 1 :]))


@_operation("squeeze compat.v1.squeeze", "input axis name", takes_whole=True)
def _squeeze(net: Net, input: Value, axis: Any = None, name: Any = None) -> Value:
    axes = axis if isinstance(axis, list) else [axis]
    places = _axes(input, axes, "squeezes all axes of 1")
    if any(input.size(place) != 1 for place in places):
        raise ModelFormatError(f"it squeezes the axes {axes} of {(None, *input.shape)}")
    return reshape(input, [size for place, size in enumerate(input.shape, 1) if place not in places])


def _axes(value: Value, axis: Any, otherwise: str) -> set[int]:
    """Return stated axes, counted with the batch from 0; ``otherwise`` is what happens if none are stated."""
    axes = axis if isinstance(axis, list) else [axis]
    if not axes or None in axes:
        raise ModelFormatError(f"it {otherwise}, the batch among them; say which")
    return {int(axis) + (len(value.shape) + 1 if axis < 0 else 0) for axis in axes}


@_operation("reshape", "tensor shape name", takes_whole=True)
def _reshape(net: Net, tensor: Value, shape: Any, name: Any = None) -> Value:
    if not isinstance(shape, list) or any(not isinstance(size, int) for size in shape) or shape[:1] != [-1]:
        raise ModelFormatError(f"it lays out {(None, *tensor.shape)} as {shape}; the first size must be -1, the batch")
    return reshape(tensor, shape[1:])


@_operation("transpose compat.v1.transpose", "a perm conjugate name", takes_whole=True)
def _transpose(net: Net, a: Value, perm: Any, conjugate: Any = False, name: Any = None) -> Value:
    order = [int(axis) for axis in perm]
    if order[:1] != [0] or sorted(order) != list(range(len(a.shape) + 1)):
        raise ModelFormatError(f"it orders the axes of {(None, *a.shape)} as {perm}")
    symbol = apply("transpose", a.plain(), axes=tuple(order))
    return Value(symbol, tuple(a.shape[axis - 1] for axis in order[1:]), whole=a.whole)


@_operation("concat", "values axis name")
def _concat(net: Net, values: list[Any], axis: int, name: Any = None) -> Value:
    if not all(isinstance(value, Value) for value in values):
        raise ModelFormatError("it joins constants with what is computed")
    return concatenate(int(axis), *values)


@_operation("stack", "values axis name")
def _stack(net: Net, values: list[Any], axis: int = 0, name: Any = None) -> Value:
    return _concat(
        net, [_expand_dims(net, value, axis) if isinstance(value, Value) else value for value in values], axis
    )


@_operation("pad compat.v1.pad", "tensor paddings mode constant_values name")
def _pad(
    net: Net, tensor: Value, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: Any = None
) -> Value:
    pairs = [(int(before), int(behind)) for before, behind in paddings]
    outside = len(pairs) != 4 or any(pairs[0] + pairs[3])
    if outside or mode.upper() != "CONSTANT" or len(tensor.shape) != 3:
        raise ModelFormatError(f"it pads {(None, *tensor.shape)} by {paddings} ({mode}), which cannot be computed")
    height, width, channels = tensor.shape
    symbol = pad(tensor.first(), (pairs[1], pairs[2]), float(constant_values))
    return Value(symbol, (height + sum(pairs[1]), width + sum(pairs[2]), channels), turned=True)


@_operation("image.resize compat.v1.image.resize_images", "images size method preserve_aspect_ratio antialias name")
def _resize(
    net: Net,
    images: Value,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: Any = None,
) -> Value:
    height, width = (int(side) for side in size)
    if preserve_aspect_ratio or (antialias and images.shape[:2] != (height, width)) or len(images.shape) != 3:
        raise ModelFormatError("it is tf.image.resize with preserve_aspect_ratio or antialias, which is not known")
    return resize(net, images, height, width, str(method))


def _reduction(reduce: Callable[..., Any]) -> Operation:
    def compute(net: Net, input_tensor: Value, axis: Any = None, keepdims: Any = False, name: Any = None) -> Value:
        places = _axes(input_tensor, axis, "computes over all axes")
        own = tuple(sorted(input_tensor.axis(place) for place in places))
        made = replace(input_tensor, symbol=reduce(input_tensor.symbol, axis=own, keepdims=True))
        reduced = replace(made, shape=tuple(1 if n in places else size for n, size in enumerate(input_tensor.shape, 1)))
        if keepdims:
            return reduced
        return reshape(reduced, [size for n, size in enumerate(input_tensor.shape, 1) if n not in places])

    return compute


for _name in ("mean", "sum", "max", "min"):
    _operation(
        f"math.reduce_{_name} compat.v1.reduce_{_name} compat.v1.math.reduce_{_name}", "input_tensor axis keepdims name"
    )(_reduction(operation(_name)))


@_operation("__operators__.getitem", "tensor slice_spec", takes_whole=True)
def _getitem(net: Net, tensor: Value, slice_spec: Any) -> Value:
    """Slice a tensor as in NumPy; the batch axis stays whole."""
    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    ellipses = [place for place, item in enumerate(spec) if _is(item, "ellipsis")]
    rank = len(tensor.shape) + 1
    filled = rank - sum(not _is(item, "newaxis") for item in spec) + len(ellipses)
    everything: list[Any] = [{"start": None, "stop": None, "step": None}] * filled
    if len(ellipses) > 1 or filled < 0:
        raise ModelFormatError(f"it takes {slice_spec} of {(None, *tensor.shape)}")
    place = ellipses[0] if ellipses else len(spec)
    spec = [*spec[:place], *everything, *spec[place + 1 :]]
    if _is(spec[0], "newaxis") or not isinstance(spec[0], Mapping) or any(v is not None for v in spec[0].values()):
        raise ModelFormatError(f"it takes {slice_spec} of {(None, *tensor.shape)}; the batch must stay whole")
    shape: list[int] = []
    axis = 1
    for item in spec[1:]:
        if _is(item, "newaxis"):
            shape.append(1)
            continue
        places = _places(item, tensor.size(axis))
        tensor = _taken(net, tensor, axis, places)
        if isinstance(item, Mapping):
            shape.append(len(places))
        axis += 1
    return reshape(tensor, shape) if tuple(shape) != tensor.shape else tensor


def _is(value: Any, what: str) -> bool:
    """Return whether a part of a slice is the ellipsis or a new axis, which is also written as null."""
    if value is None:
        return what == "newaxis"
    return isinstance(value, Mapping) and what in str(value.get("class_name", "")).lower()


def _places(index: Any, size: int) -> list[int]:
    if isinstance(index, Mapping):
        bounds = [index.get(key) for key in ("start", "stop", "step")]
        if any(bound is not None and not isinstance(bound, int) for bound in bounds):
            raise ModelFormatError(f"it takes {index} of an axis, which is computed")
        places = list(range(size)[slice(*bounds)])
    elif isinstance(index, int) and -size <= index < size:
        places = [index % size]
    else:
        raise ModelFormatError(f"it takes {index} of an axis of {size}")
    if not places:
        raise ModelFormatError(f"it takes nothing of an axis of {size}")
    return places


def _taken(net: Net, tensor: Value, axis: int, places: list[int]) -> Value:
    size = tensor.size(axis)
    if places == list(range(size)):
        return tensor
    if places == list(range(places[0], places[-1] + 1)):
        own = tensor.axis(axis)
        symbol = apply("slice_axis", tensor.symbol, axis=own, begin=places[0], end=places[-1] + 1)
        shape = [len(places) if number == axis else side for number, side in enumerate(tensor.shape, 1)]
        return replace(tensor, symbol=symbol, shape=tuple(shape))
    return replace(along(net, tensor, axis, np.eye(size, dtype=np.float32)[places]), whole=tensor.whole)
