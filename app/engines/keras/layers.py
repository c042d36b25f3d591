"""Keras layers, computed as in TensorFlow, as MXNet operations.

Every option of every layer is used, affects only training, or must have a value that changes nothing. A network with
any other option is rejected by the option's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.engines.keras.graph import (
    Array,
    Net,
    Value,
    activate,
    add,
    check_arrays,
    elu,
    multiply,
    relu,
    reshape,
    softmax,
)
from app.engines.keras.symbol import apply, operation
from app.errors import ModelFormatError

SMALLEST = 1e-7
"""Smallest divisor in Keras (``epsilon``)."""

_TRAINING = ("_initializer", "_regularizer", "_constraint")
_EVERY_LAYER = {"name", "trainable", "dtype", "batch_input_shape", "batch_size", "input_dtype"}
IDENTITIES = {
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout"),
    *("AlphaDropout", "ActivityRegularization", "FixedDropout", "RandomFlip", "RandomRotation", "RandomZoom"),
    *("RandomTranslation", "RandomContrast", "RandomBrightness", "RandomHeight", "RandomWidth", "Identity"),
    *("RandomShear", "RandomHue", "RandomSaturation", "RandomSharpness", "RandomColorJitter", "RandomGrayscale"),
    *("RandomColorDegeneration", "RandomPosterization", "RandomErasing", "RandomGaussianBlur", "RandomPerspective"),
    *("RandomElasticTransform", "RandomInvert", "RandAugment", "AugMix", "MixUp", "CutMix"),
}
"""Layers that act only during training, whatever their options."""


@dataclass(frozen=True)
class Layer:
    """A layer to compute: its checked options, and its arrays by their roles."""

    net: Net
    options: Mapping[str, Any]
    arrays: Mapping[str, Array]

    def pair(self, option: str, default: Any = (1, 1)) -> tuple[int, int]:
        """Return an option for both sides, which may be a single number."""
        value = self.options.get(option)
        value = default if value is None else value
        down, across = (value, value) if isinstance(value, int) else value
        return int(down), int(across)

    @property
    def data_format(self) -> str:
        """Return the position of the channels."""
        return choice(self, "data_format", "channels_last", "channels_first")

    @property
    def padding(self) -> str:
        """Return ``valid`` or ``same``."""
        return choice(self, "padding", "valid", "same")


Compute = Callable[..., Value]


@dataclass(frozen=True)
class Kind:
    """An implementation of a kind of layer.

    ``neutral`` maps unused options to their permitted values; no values permit all.
    """

    compute: Compute
    options: frozenset[str] = frozenset()
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


KINDS: dict[str, Kind] = {}


def kind(names: str, options: str = "", **neutral: tuple[Any, ...]) -> Callable[[Compute], Compute]:
    """Register a function for some kinds of layers."""

    def register(compute: Compute) -> Compute:
        KINDS.update({name: Kind(compute, frozenset(options.split()), neutral) for name in names.split()})
        return compute

    return register


def compute_layer(
    net: Net, class_name: str, config: Mapping[str, Any], arrays: Mapping[str, Array], *x: Value
) -> Value:
    """Compute a layer.

    :raises ModelFormatError: if its kind or an option is unknown, or it does not match its input or its arrays.
    """
    check(class_name, config)
    if class_name in IDENTITIES:
        return x[0]
    return KINDS[class_name].compute(Layer(net, config, arrays), *x)


def check(class_name: str, config: Mapping[str, Any]) -> None:
    """Check that a kind of layer and all its options are known.

    :raises ModelFormatError: if they are not.
    """
    if class_name in IDENTITIES:
        return
    known = KINDS.get(class_name)
    if known is None:
        raise ModelFormatError(f"it is of the kind {class_name!r}, which is not known")
    for option, value in config.items():
        if option in known.options or option in _EVERY_LAYER or option.endswith(_TRAINING):
            continue
        if option not in known.neutral:
            raise ModelFormatError(f"it is a {class_name} with the option {option}={value!r}, which is not known")
        if known.neutral[option] and value not in known.neutral[option]:
            raise ModelFormatError(f"it is a {class_name} with {option}={value!r}, which cannot be computed")


def apply_activation(layer: Layer, value: Value) -> Value:
    """Apply the activation in a layer's options: a name, or a separate layer."""
    name: Any = layer.options.get("activation")
    config: Any = {}
    if isinstance(name, Mapping):  # a function with its name as the configuration, or a layer with its options
        name, config = name.get("class_name"), name.get("config") or {}
        name, config = (config, {}) if isinstance(config, str) else (name, config)
    if name in _AS_ACTIVATION:
        return compute_layer(layer.net, name, config, {}, value)
    return activate(value, name)


_AS_ACTIVATION = ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")


def choice(layer: Layer, option: str, *known: str) -> str:
    """Return an option with one of several values; the first is the default."""
    value = str(layer.options.get(option) or known[0])
    if value not in known:
        raise ModelFormatError(f"it has {option}={value!r}, which is not known; known are {' and '.join(known)}")
    return value


def bias_shape(layer: Layer, filters: int) -> dict[str, tuple[int, ...]]:
    return {"bias": (filters,)} if "bias" in layer.arrays else {}


@kind("Dense", "units activation use_bias")
def _dense(layer: Layer, x: Value) -> Value:
    units, kernel = int(layer.options["units"]), layer.arrays["kernel"]
    check_arrays(layer.arrays, {"kernel": (x.size(-1), units), **bias_shape(layer, units)})
    made = Value(apply("dot", x.plain(), layer.net.constant(kernel)), (*x.shape[:-1], units))
    return apply_activation(layer, add(layer.net, made, layer.arrays["bias"]) if "bias" in layer.arrays else made)


# normalization


@kind(
    "BatchNormalization BatchNormalizationV1 BatchNormalizationV2 SyncBatchNormalization",
    "axis epsilon center scale",
    **dict.fromkeys(("momentum", "fused", "synchronized", "renorm_clipping", "renorm_momentum"), ()),
    **{"renorm": (False,), "virtual_batch_size": (None,), "adjustment": (None,)},
)
def _batch_normalization(layer: Layer, x: Value) -> Value:
    axis = _only(layer.options.get("axis", -1))
    epsilon, size, place = float(layer.options.get("epsilon", 1e-3)), x.size(axis), x.axis(axis)
    check_arrays(layer.arrays, dict.fromkeys(layer.arrays, (size,)))
    neutral = {"gamma": np.ones(size), "beta": np.zeros(size)}
    arrays = [layer.arrays.get(role, neutral.get(role)) for role in ("gamma", "beta", "moving_mean", "moving_variance")]
    turned = x.symbol if place == 1 else apply("SwapAxis", x.symbol, dim1=1, dim2=place)
    options: dict[str, Any] = {"eps": epsilon, "fix_gamma": layer.net.mxnet, "use_global_stats": True, "axis": 1}
    made = apply("BatchNorm", turned, *map(layer.net.constant, arrays), **options)
    return replace(x, symbol=made if place == 1 else apply("SwapAxis", made, dim1=1, dim2=place))


def _only(axis: Any) -> int:
    listed = axis if isinstance(axis, list | tuple) else [axis]
    if len(listed) != 1:
        raise ModelFormatError(f"it normalizes along several axes, {axis}, which cannot be computed")
    return int(listed[0])


@kind("LayerNormalization", "axis epsilon center scale", rms_scaling=(False,))
def _layer_normalization(layer: Layer, x: Value) -> Value:
    axis, size = _only(layer.options.get("axis", -1)), x.size(-1)
    if axis not in (-1, len(x.shape)):
        raise ModelFormatError(f"it is a LayerNormalization along the axis {axis}, which cannot be computed")
    check_arrays(layer.arrays, dict.fromkeys(layer.arrays, (size,)))
    scale, shift = (
        layer.net.constant(layer.arrays.get(role, np.full(size, other)))
        for role, other in (("gamma", 1.0), ("beta", 0.0))
    )
    made = apply("LayerNorm", x.plain(), scale, shift, axis=-1, eps=float(layer.options.get("epsilon", 1e-3)))
    return Value(made, x.shape)


@kind("Normalization", "axis mean variance invert")
def _normalization(layer: Layer, x: Value) -> Value:
    axis = layer.options.get("axis", -1)
    axes = [] if axis is None else axis if isinstance(axis, list | tuple) else [axis]
    kept_axes = {number if number < 0 else number - len(x.shape) - 1 for number in axes}
    shape = [size if place - len(x.shape) in kept_axes else 1 for place, size in enumerate(x.shape)]
    if layer.options.get("mean") is None:
        mean, variance = layer.arrays["mean"], layer.arrays["variance"]
    else:
        mean, variance = np.asarray(layer.options["mean"]), np.asarray(layer.options["variance"])
    mean, variance = (
        (np.full(shape, item.reshape(())) if item.size == 1 else item.reshape(shape)).astype(np.float64)
        for item in (mean, variance)
    )
    deviation = np.maximum(np.sqrt(variance), SMALLEST)
    if layer.options.get("invert"):
        return add(layer.net, multiply(layer.net, replace(x, whole=False), deviation), mean)
    return multiply(layer.net, add(layer.net, replace(x, whole=False), -mean), 1 / deviation)


@kind("Rescaling", "scale offset")
def _rescaling(layer: Layer, x: Value) -> Value:
    scaled = multiply(layer.net, replace(x, whole=False), layer.options.get("scale", 1.0))
    return add(layer.net, scaled, layer.options.get("offset", 0.0))


# activations


kind("Activation", "activation")(apply_activation)


def _number(layer: Layer, option: str, default: float) -> float:
    """Return a numeric option; Keras 2.0 wrote some as ``{"type": "ndarray", "value": 0.3}``."""
    value = layer.options.get(option, default)
    return float(value["value"] if isinstance(value, Mapping) else value)


@kind("ReLU", "max_value negative_slope threshold")
def _relu(layer: Layer, x: Value) -> Value:
    slope, threshold = (_number(layer, option, 0.0) for option in ("negative_slope", "threshold"))
    return replace(x, symbol=relu(x.symbol, layer.options.get("max_value"), slope, threshold))


@kind("LeakyReLU", "alpha")
def _leaky_relu(layer: Layer, x: Value) -> Value:
    return replace(x, symbol=relu(x.symbol, negative_slope=_number(layer, "alpha", 0.3)))


@kind("ELU", "alpha")
def _elu(layer: Layer, x: Value) -> Value:
    return replace(x, symbol=elu(x.symbol, _number(layer, "alpha", 1.0)))


@kind("ThresholdedReLU", "theta")
def _thresholded(layer: Layer, x: Value) -> Value:
    above = apply("_greater_scalar", x.symbol, scalar=_number(layer, "theta", 1.0))
    return replace(x, symbol=x.symbol * above)


@kind("PReLU", "shared_axes")
def _prelu(layer: Layer, x: Value) -> Value:
    shared = layer.options.get("shared_axes") or []
    alpha = layer.arrays["alpha"]
    check_arrays(layer.arrays, {"alpha": tuple(1 if axis in shared else size for axis, size in enumerate(x.shape, 1))})
    below = multiply(layer.net, replace(x, symbol=apply("relu", -1.0 * x.symbol)), alpha)
    return replace(x, symbol=apply("relu", x.symbol) - below.symbol)


@kind("Softmax", "axis")
def _softmax(layer: Layer, x: Value) -> Value:
    return softmax(x, _only(layer.options.get("axis", -1)))


# shapes


@kind("Flatten", "data_format")
def _flatten(layer: Layer, x: Value) -> Value:
    if layer.data_format == "channels_first" and len(x.shape) > 1:  # Keras flattens in the order of channels last
        order = (0, *range(2, len(x.shape) + 1), 1)
        x = Value(apply("transpose", x.plain(), axes=order), (*x.shape[1:], x.shape[0]))
    return reshape(x, (int(np.prod(x.shape)),))


@kind("Reshape", "target_shape")
def _reshape(layer: Layer, x: Value) -> Value:
    shape = [int(size) for size in layer.options["target_shape"]]
    if shape.count(-1) == 1:
        shape[shape.index(-1)] = int(np.prod(x.shape)) // -int(np.prod(shape))
    return reshape(x, shape)


@kind("Permute", "dims")
def _permute(layer: Layer, x: Value) -> Value:
    dims = [int(axis) for axis in layer.options["dims"]]
    if sorted(dims) != list(range(1, len(x.shape) + 1)):
        raise ModelFormatError(f"it has dims={dims}, which is no order of its {len(x.shape)} axes")
    return Value(apply("transpose", x.plain(), axes=(0, *dims)), tuple(x.shape[axis - 1] for axis in dims))


@kind("RepeatVector", "n")
def _repeat(layer: Layer, x: Value) -> Value:
    count = int(layer.options["n"])
    row = apply("expand_dims", x.plain(), axis=1)
    return Value(apply("tile", row, reps=(1, count, 1)), (count, *x.shape))


# several inputs


def combine(operation: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    """Combine two values element by element; sides of 1 are broadcast."""
    if len(left.shape) != len(right.shape):
        raise ModelFormatError(f"it combines {(None, *left.shape)} with {(None, *right.shape)}")
    shape = []
    for size, against in zip(left.shape, right.shape, strict=True):
        if size != against and 1 not in (size, against):
            raise ModelFormatError(f"it combines {(None, *left.shape)} with {(None, *right.shape)}")
        shape.append(max(size, against))
    turned = left.turned or right.turned
    symbols = [value.first() if turned else value.symbol for value in (left, right)]
    return Value(operation(*symbols), tuple(shape), turned)


def _merge(operation: Callable[[Any, Any], Any]) -> Compute:
    def compute(layer: Layer, *x: Value) -> Value:
        result = x[0]
        for value in x[1:]:
            result = combine(operation, result, value)
        return result

    return compute


kind("Add")(_merge(operation("broadcast_add")))
kind("Multiply")(_merge(operation("broadcast_mul")))
kind("Maximum")(_merge(operation("broadcast_maximum")))
kind("Minimum")(_merge(operation("broadcast_minimum")))


@kind("Subtract")
def _subtract(layer: Layer, left: Value, right: Value) -> Value:
    return combine(operation("broadcast_sub"), left, right)


@kind("Average")
def _average(layer: Layer, *x: Value) -> Value:
    total = _merge(operation("broadcast_add"))(layer, *x)
    return replace(total, symbol=total.symbol / float(len(x)))


def concatenate(axis: int, *x: Value) -> Value:
    """Concatenate values along an axis, counted with the batch."""
    place = axis if axis < 0 else axis - len(x[0].shape) - 1
    rests = {value.shape[:place] + value.shape[len(value.shape) + place + 1 :] for value in x}
    if len(rests) != 1:
        raise ModelFormatError(f"it joins {', '.join(str((None, *value.shape)) for value in x)} along the axis {axis}")
    turned = any(value.turned for value in x)
    symbols = [value.first() if turned else value.symbol for value in x]
    shape = list(x[0].shape)
    shape[place] = sum(value.shape[place] for value in x)
    dim = replace(x[0], turned=turned).axis(axis)
    return Value(apply("Concat", *symbols, dim=dim) if len(x) > 1 else symbols[0], tuple(shape), turned)


@kind("CustomScaleLayer Custom>CustomScaleLayer", "scale")
def _residual(layer: Layer, x: Value, branch: Value) -> Value:
    """Add a branch with a smaller weight, as in InceptionResNetV2 of ``keras.applications``."""
    return combine(operation("broadcast_add"), x, multiply(layer.net, branch, float(layer.options["scale"])))


@kind("LayerScale", projection_dim=(), init_values=())
def _layer_scale(layer: Layer, x: Value) -> Value:
    """Multiply each channel by a weight, as in ConvNeXt of ``keras.applications``."""
    check_arrays(layer.arrays, {"gamma": (x.size(-1),)})
    return multiply(layer.net, x, layer.arrays["gamma"])


@kind("StochasticDepth", drop_path_rate=())
def _stochastic_depth(layer: Layer, x: Value) -> Value:
    """Return the input: ConvNeXt of ``keras.applications`` uses this layer only in training."""
    return x


@kind("Concatenate", "axis")
def _concatenate(layer: Layer, *x: Value) -> Value:
    return concatenate(_only(layer.options.get("axis", -1)), *x)
