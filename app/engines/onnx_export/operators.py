"""The registry of the MXNet operations that can be written as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engines.onnx_export.writer import Shape, Tensor, Writer
from app.errors import ModelFormatError
from app.formats.mxnet_graph import Node

Result = Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Call:
    """An operation to write: MXNet's node, its inputs, and the graph that is written."""

    node: Node
    inputs: tuple[Tensor, ...]
    graph: Writer

    @property
    def x(self) -> Tensor:
        """Return the first input."""
        return self.input(0)

    def input(self, number: int) -> Tensor:
        """Return an input.

        :raises ValueError: if the operation has fewer inputs.
        """
        if number >= len(self.inputs):
            raise ValueError(f"it has {len(self.inputs)} inputs; {number + 1} are needed")
        return self.inputs[number]

    def axis(self, key: str, default: int, x: Tensor | None = None) -> int:
        """Return an attribute that is an axis of an input, as a number from 0.

        :raises ValueError: if the input has no such axis.
        """
        return place(self.node.number(key, default), len((x or self.x).shape))

    def sides(self, key: str, default: int, rank: int) -> Shape:
        """Return an attribute with a number for each side of a map.

        :raises ValueError: if it has numbers for other sides.
        """
        numbers = self.node.numbers(key, (default,) * rank)
        if len(numbers) != rank:
            raise ValueError(f"its {key} is {numbers}; {rank} numbers are needed")
        return numbers

    def check_shape(self, tensor: Tensor, *expected: Shape) -> None:
        """Check the shape of a parameter.

        :raises ValueError: if it is none of the expected ones.
        """
        if tensor.shape not in expected:
            raise ValueError(f"its parameter {tensor.name} has the shape {tensor.shape}, {expected[0]} is needed")

    def check_option(self, key: str, *known: str) -> str:
        """Return an attribute's text; the first of the known ones is its default.

        :raises ModelFormatError: if it is none of the known ones.
        """
        text = self.node.text(key, known[0])
        if text not in known:
            raise self.refusal(f"with {key}={text!r}")
        return text

    def refusal(self, what: str) -> ModelFormatError:
        """Return the error for an operation that is used in a way that cannot be written."""
        return ModelFormatError(
            f"the operation {self.node.op} {what} cannot be converted (node {self.node.name}); "
            "MXNet itself serves it, with the engine mxnet"
        )


Operator = Callable[[Call], Result]

OPERATORS: dict[str, Operator] = {}


def operator(names: str) -> Callable[[Operator], Operator]:
    """Register a function for operations, by all the names that MXNet ever gave them."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names.split(), function))
        return function

    return register


def place(axis: int, rank: int) -> int:
    """Return an axis as a number from 0.

    :raises ValueError: if there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} of {rank}")
    return axis % rank


def features(tensor: Tensor) -> Shape:
    """Return the shape of a tensor's rows as vectors: (rows, features)."""
    return tensor.shape[0], math.prod(tensor.shape[1:])
