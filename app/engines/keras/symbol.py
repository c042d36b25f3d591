"""MXNet's symbols, built without MXNet: expressions that become a graph in MXNet's format."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from app.formats.mxnet_graph import symbol_of

_serial = itertools.count()

VERSION = ["int", 10901]
"""MXNet 1.9.1, as its files state it."""


class Symbol:
    """One operation with one output, or an array if ``op`` is ``null``."""

    def __init__(self, op: str, name: str, inputs: tuple[Symbol, ...], attrs: dict[str, str]) -> None:
        self.op = op
        self.name = name
        self.inputs = inputs
        self.attrs = attrs
        self.serial = next(_serial)  # greater than those of its inputs

    def __add__(self, other: Any) -> Symbol:
        return _binary("elemwise_add", "_plus_scalar", self, other)

    def __sub__(self, other: Any) -> Symbol:
        return _binary("elemwise_sub", "_minus_scalar", self, other)

    def __rsub__(self, other: float) -> Symbol:
        return apply("_rminus_scalar", self, scalar=other)

    def __mul__(self, other: Any) -> Symbol:
        return _binary("elemwise_mul", "_mul_scalar", self, other)

    def __truediv__(self, other: Any) -> Symbol:
        return _binary("elemwise_div", "_div_scalar", self, other)

    def __rtruediv__(self, other: float) -> Symbol:
        return apply("_rdiv_scalar", self, scalar=other)

    def __pow__(self, other: float) -> Symbol:
        return apply("_power_scalar", self, scalar=other)

    __radd__ = __add__
    __rmul__ = __mul__


def _binary(op: str, with_number: str, left: Symbol, right: Any) -> Symbol:
    return apply(op, left, right) if isinstance(right, Symbol) else apply(with_number, left, scalar=right)


def variable(name: str, shape: tuple[int, ...] | None = None) -> Symbol:
    """Return an array that is fed or learned.

    :param shape: its shape, as MXNet needs it if no operation tells it.
    """
    return Symbol("null", name, (), {} if shape is None else {"__shape__": _text(shape)})


def apply(op: str, *inputs: Symbol, name: str = "", **attrs: Any) -> Symbol:
    """Return the output of one of MXNet's operations.

    :param attrs: its options; those that are None are left out.
    """
    if op in ("Concat", "add_n"):
        attrs["num_args"] = len(inputs)
    return Symbol(op, name, inputs, {key: _text(value) for key, value in attrs.items() if value is not None})


def _text(value: Any) -> str:
    if not isinstance(value, tuple | list):
        return str(value)
    numbers = [str(item) for item in value]  # not the tuple's own text, which names NumPy's types
    return f"({', '.join(numbers)}{',' if len(numbers) == 1 else ''})"


def operation(op: str) -> Callable[..., Symbol]:
    """Return the function that applies an operation."""
    return partial(apply, op)


def with_number(op: str) -> Callable[[Any, Any], Symbol]:
    """Return the function that applies an operation of a symbol and a number, in any order."""

    def compute(left: Any, right: Any) -> Symbol:
        symbol, number = (left, right) if isinstance(left, Symbol) else (right, left)
        return apply(op, symbol, scalar=number)

    return compute


def document_of(output: Symbol) -> dict[str, Any]:
    """Return the JSON document of the graph that computes a symbol, as MXNet 1.9.1 writes it."""
    needed, waiting = {output.serial: output}, [output]
    while waiting:
        for symbol in waiting.pop().inputs:
            if symbol.serial not in needed:
                needed[symbol.serial] = symbol
                waiting.append(symbol)
    symbols = [needed[serial] for serial in sorted(needed)]
    places = {symbol.serial: place for place, symbol in enumerate(symbols)}
    nodes: list[dict[str, Any]] = []
    for place, symbol in enumerate(symbols):
        inputs = [[places[item.serial], 0, 0] for item in symbol.inputs]
        # the prefix differs from every layer's and input's name
        node = {"op": symbol.op, "name": symbol.name or f"net_{symbol.op.strip('_').lower()}{place}", "inputs": inputs}
        nodes.append({**node, "attrs": symbol.attrs} if symbol.attrs else node)
    return symbol_of(nodes, [[len(nodes) - 1, 0, 0]]) | {"attrs": {"mxnet_version": VERSION}}
