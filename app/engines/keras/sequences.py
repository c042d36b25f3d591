"""Keras layers that read the lines of a picture as a sequence: recurrent layers, and convolutions along one axis.

A recurrent layer is unrolled, one step per line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from app.engines.keras.graph import Net, Value, activate, add, check_arrays, reshape
from app.engines.keras.layers import Layer, combine, compute_layer, concatenate, kind
from app.engines.keras.symbol import apply, operation
from app.errors import ModelFormatError

MAX_STEPS = 1000
"""Limit on the steps of a graph; a graph with more would take minutes to be read."""

_STEPPED = "units activation recurrent_activation use_bias return_sequences go_backwards"
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"dropout": (), "recurrent_dropout": (), "implementation": (), "unroll": (), "unit_forget_bias": ()},
    **{"stateful": (False,), "return_state": (False,), "time_major": (False,), "zero_output_for_mask": ()},
    "input_dim": (),
    "seed": (),
    "input_length": (),
}

Step = Callable[[Value, Value | None], Value]
"""Function that computes the next state from a line and the state, which is at first None for zeros."""


def _steps(layer: Layer, x: Value, step: Step) -> Value:
    """Feed a sequence line by line; return the last state, or all states."""
    if len(x.shape) != 2 or x.shape[0] > MAX_STEPS:
        raise ModelFormatError(f"it takes sequences of at most {MAX_STEPS:,} steps, not {(None, *x.shape)}")
    order = range(x.shape[0])
    states: list[Value] = []
    for number in reversed(order) if layer.options.get("go_backwards") else order:
        line = apply("slice_axis", x.plain(), axis=1, begin=number, end=number + 1)
        states.append(step(reshape(Value(line, (1, x.shape[1])), (x.shape[1],)), states[-1] if states else None))
    if not layer.options.get("return_sequences"):
        return states[-1]
    return concatenate(1, *(reshape(state, (1, *state.shape)) for state in states))


def _times(net: Net, x: Value, matrix: Any) -> Value:
    return Value(apply("dot", x.plain(), net.constant(matrix)), (*x.shape[:-1], matrix.shape[1]))


def _parts(x: Value, count: int) -> list[Value]:
    """Split rows into parts of equal length."""
    size = x.shape[-1] // count
    axis = len(x.shape)
    return [
        Value(apply("slice_axis", x.symbol, axis=axis, begin=size * n, end=size * (n + 1)), (*x.shape[:-1], size))
        for n in range(count)
    ]


def _sum(left: Value, right: Value | None) -> Value:
    return left if right is None else combine(operation("broadcast_add"), left, right)


def _product(left: Value, right: Value) -> Value:
    return combine(operation("broadcast_mul"), left, right)


def _units(layer: Layer, x: Value, gates: int, biases: tuple[int, ...] = ()) -> int:
    """Return the number of units, and check the arrays; ``biases`` are the axes of the bias before its last."""
    units = int(layer.options["units"])
    expected: dict[str, tuple[int, ...]] = {"kernel": (x.size(-1), gates * units)}
    expected["recurrent_kernel"] = units, gates * units
    if "bias" in layer.arrays:
        expected["bias"] = (*biases, gates * units)
    check_arrays(layer.arrays, expected)
    return units


@kind("SimpleRNN", "units activation use_bias return_sequences go_backwards", **_NEUTRAL)
def _simple(layer: Layer, x: Value) -> Value:
    _units(layer, x, 1)

    def step(line: Value, state: Value | None) -> Value:
        before = None if state is None else _times(layer.net, state, layer.arrays["recurrent_kernel"])
        return activate(_sum(line, before), layer.options.get("activation", "tanh"))

    return _steps(layer, _with_bias(layer, x), step)


def _with_bias(layer: Layer, x: Value) -> Value:
    fed = _times(layer.net, x, layer.arrays["kernel"])
    bias = layer.arrays.get("bias")
    return fed if bias is None else add(layer.net, fed, bias[0] if bias.ndim == 2 else bias)


@kind("LSTM", _STEPPED, **_NEUTRAL)
def _lstm(layer: Layer, x: Value) -> Value:
    """Compute an LSTM (Hochreiter and Schmidhuber, 1997), with input, forget and output gates."""
    _units(layer, x, 4)
    gate = layer.options.get("recurrent_activation", "hard_sigmoid")
    activation = layer.options.get("activation", "tanh")
    cells: list[Value] = []

    def step(line: Value, state: Value | None) -> Value:
        before = None if state is None else _times(layer.net, state, layer.arrays["recurrent_kernel"])
        entering, forgotten, fresh, leaving = _parts(_sum(line, before), 4)
        cell = _product(activate(entering, gate), activate(fresh, activation))
        cells.append(_sum(cell, _product(activate(forgotten, gate), cells[-1])) if cells else cell)
        return _product(activate(leaving, gate), activate(cells[-1], activation))

    return _steps(layer, _with_bias(layer, x), step)


@kind("GRU", f"{_STEPPED} reset_after", **_NEUTRAL)
def _gru(layer: Layer, x: Value) -> Value:
    """Compute a GRU (Cho et al., 2014, arXiv:1406.1078); with ``reset_after`` as in cuDNN."""
    after = bool(layer.options.get("reset_after"))
    units = _units(layer, x, 3, (2,) if after else ())
    gate = layer.options.get("recurrent_activation", "hard_sigmoid")
    kernel, bias = layer.arrays["recurrent_kernel"], layer.arrays.get("bias")

    def recurrent(state: Value | None, columns: slice) -> Value | None:
        made = None if state is None else _times(layer.net, state, kernel[:, columns])
        if not after or bias is None:
            return made
        row = bias[1, columns]
        if made is None:  # the state is zero, which leaves only the bias
            made = Value(apply("_zeros", shape=(1, len(row))), (len(row),))
        return add(layer.net, made, row)

    def step(line: Value, state: Value | None) -> Value:
        update, reset, fresh = _parts(line, 3)
        update = activate(_sum(update, recurrent(state, slice(0, units))), gate)
        reset = activate(_sum(reset, recurrent(state, slice(units, 2 * units))), gate)
        if after:
            inner = recurrent(state, slice(2 * units, None))
            inner = None if inner is None else _product(reset, inner)
        else:
            inner = None if state is None else recurrent(_product(reset, state), slice(2 * units, None))
        candidate = activate(_sum(fresh, inner), layer.options.get("activation", "tanh"))
        taken = _product(replace(update, symbol=1.0 - update.symbol), candidate)
        return taken if state is None else _sum(taken, _product(update, state))

    return _steps(layer, _with_bias(layer, x), step)


@kind("Bidirectional", "layer merge_mode")
def _bidirectional(layer: Layer, x: Value) -> Value:
    inner = layer.options["layer"]
    options = dict(inner["config"])
    answers = []
    for way in ("forward", "backward"):
        arrays = {role.removeprefix(f"{way}_"): array for role, array in layer.arrays.items() if role.startswith(way)}
        answers.append(compute_layer(layer.net, str(inner["class_name"]), options, arrays, x))
        options["go_backwards"] = not options.get("go_backwards")
    forward, backward = answers
    if options.get("return_sequences"):
        backward = replace(backward, symbol=apply("reverse", backward.plain(), axis=1))
    mode = layer.options.get("merge_mode", "concat")
    if mode == "concat":
        return concatenate(-1, forward, backward)
    if mode in ("sum", "ave"):
        total = _sum(forward, backward)
        return total if mode == "sum" else replace(total, symbol=total.symbol * 0.5)
    if mode == "mul":
        return _product(forward, backward)
    raise ModelFormatError(f"it has merge_mode={mode!r}, which cannot be computed")


@kind("TimeDistributed", "layer")
def _time_distributed(layer: Layer, x: Value) -> Value:
    """Apply a layer to each step; these layers compute along the last axis anyway."""
    inner = layer.options["layer"]
    name = str(inner.get("class_name"))
    if name not in ("Dense", "Activation", "Dropout"):
        raise ModelFormatError(f"it applies a {name} to each step, which cannot be computed")
    return compute_layer(layer.net, name, inner["config"], layer.arrays, x)


# along one axis

_ALONG = "strides padding data_format"


def _as_picture(class_name: str, layer: Layer, x: Value, **options: Any) -> Value:
    """Compute a layer on a sequence as on a picture one pixel wide."""
    if len(x.shape) != 2 or layer.data_format != "channels_last":
        raise ModelFormatError(f"it takes sequences with the channels last, not {(None, *x.shape)}")
    length, channels = x.shape
    arrays = {role: array[:, np.newaxis] if role == "kernel" else array for role, array in layer.arrays.items()}
    made = compute_layer(layer.net, class_name, options, arrays, reshape(x, (length, 1, channels)))
    return reshape(made, (made.shape[0], made.shape[-1])) if len(made.shape) == 3 else made


def _single(layer: Layer, option: str, default: int) -> list[int]:
    value = layer.options.get(option)
    value = default if value is None else value
    return [int(value if isinstance(value, int) else value[0]), 1]


@kind("Conv1D", f"filters kernel_size dilation_rate groups activation use_bias {_ALONG}")
def _conv1d(layer: Layer, x: Value) -> Value:
    sizes = {option: _single(layer, option, 1) for option in ("kernel_size", "strides", "dilation_rate")}
    options: Mapping[str, Any] = {
        option: layer.options[option]
        for option in ("filters", "groups", "activation", "use_bias", "padding")
        if option in layer.options
    }
    return _as_picture("Conv2D", layer, x, **sizes, **options)


def _pool1d(class_name: str, layer: Layer, x: Value) -> Value:
    window = _single(layer, "pool_size", 2)
    strides = _single(layer, "strides", window[0])
    return _as_picture(class_name, layer, x, pool_size=window, strides=strides, padding=layer.padding)


for _long, _short in (("MaxPooling", "MaxPool"), ("AveragePooling", "AvgPool")):
    kind(f"{_long}1D {_short}1D", f"pool_size {_ALONG}")(partial(_pool1d, f"{_long}2D"))
    kind(f"Global{_long}1D Global{_short}1D", "data_format", keepdims=(False,))(
        partial(_as_picture, f"Global{_long}2D")
    )
