"""A writer of ONNX graphs that knows the shape of every array.

The operations are those of opset 13, which every runtime since 2021 reads. All arrays are of 32-bit floats, except the
shapes and axes that ONNX takes as arrays of integers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 13
IR_VERSION = 8
"""Version of the file format: the one of opset 15, so that runtimes of opset 13's time and later read it."""
PRODUCER = "Dimple"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An array of the graph: its name and shape, and its values if they are constant."""

    name: str
    shape: Shape
    values: NDArray[Any] | None = None


class Writer:
    """A graph under construction, with one input.

    ``scope`` is the beginning of the names that are given to new operations.
    """

    def __init__(self, input_name: str, shape: Shape) -> None:
        self.scope = ""
        self.input = Tensor(input_name, shape)
        self._nodes: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._names: Counter[str] = Counter({input_name: 1})

    def constant(self, values: Any, name: str = "") -> Tensor:
        """Return an array of constants; floats become 32-bit floats."""
        array = np.asarray(values)
        array = np.ascontiguousarray(array, np.int64 if array.dtype == np.int64 else np.float32).reshape(array.shape)
        return Tensor(self._unique(name or f"{self.scope}/constant"), array.shape, array)

    def number(self, value: float) -> Tensor:
        """Return a constant without axes, which is broadcast against any array."""
        return self.constant(np.float32(value))

    def write(self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], **attributes: Any) -> Tensor:
        """Add an operation with one output."""
        return self.write_all(op, inputs, [shape], **attributes)[0]

    def write_all(
        self, op: str, inputs: Sequence[Tensor], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> list[Tensor]:
        """Add an operation with several outputs of these shapes."""
        import onnx

        for tensor in inputs:
            if tensor.values is not None:
                self._constants[tensor.name] = tensor.values
        outputs = [Tensor(self._unique(f"{self.scope}/{op}"), tuple(map(int, shape))) for shape in shapes]
        names = [tensor.name for tensor in inputs], [tensor.name for tensor in outputs]
        self._nodes.append(onnx.helper.make_node(op, *names, name=outputs[0].name, **attributes))
        return outputs

    def unary(self, op: str, x: Tensor, **attributes: Any) -> Tensor:
        """Add an operation whose output has the shape of its input."""
        return self.write(op, [x], x.shape, **attributes)

    def binary(self, op: str, left: Tensor, right: Tensor | float) -> Tensor:
        """Add an operation of two arrays, or of an array and a number, that are broadcast as in NumPy.

        :raises ValueError: if their shapes do not fit.
        """
        other = right if isinstance(right, Tensor) else self.number(right)
        return self.write(op, [left, other], np.broadcast_shapes(left.shape, other.shape))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Add a change of shape, without special sizes.

        :raises ValueError: if the new shape has another number of elements.
        """
        target = tuple(map(int, shape))
        if math.prod(target) != math.prod(x.shape) or min(target, default=1) < 0:
            raise ValueError(f"{x.shape} cannot be laid out as {target}")
        if target == x.shape:
            return x
        if x.values is not None:
            return self.constant(x.values.reshape(target), x.name)
        return self.write("Reshape", [x, self._integers(target)], target)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Add a change of the order of axes."""
        order = list(map(int, axes))
        if order == list(range(len(x.shape))):
            return x
        if x.values is not None:
            return self.constant(x.values.transpose(order), x.name)
        return self.write("Transpose", [x], [x.shape[axis] for axis in order], perm=order)

    def swap(self, x: Tensor, first: int, second: int) -> Tensor:
        """Add an exchange of two axes."""
        order = list(range(len(x.shape)))
        order[first], order[second] = order[second], order[first]
        return self.transpose(x, order)

    def slice(self, x: Tensor, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Tensor:
        """Add a slice along one axis, by Python's rules.

        :raises ValueError: if nothing is left.
        """
        places = range(x.shape[axis])[start:stop:step]
        if not places:
            raise ValueError(f"nothing is left of {x.shape} along the axis {axis} from {start} to {stop}")
        if places == range(x.shape[axis]):
            return x
        end = places[-1] + (1 if places.step > 0 else -1)
        ends = end if end >= 0 else -x.shape[axis] - 1  # a negative end counts from the end of the axis
        parts = [self._integers([number]) for number in (places[0], ends, axis, places.step)]
        shape = [len(places) if number == axis else size for number, size in enumerate(x.shape)]
        return self.write("Slice", [x, *parts], shape)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Add a concatenation along an axis.

        :raises ValueError: if the other sizes differ.
        """
        if len({(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}) != 1:
            raise ValueError(f"{', '.join(str(part.shape) for part in parts)} cannot be joined along the axis {axis}")
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.write("Concat", parts, shape, axis=axis)

    def reduce(self, op: str, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Add a reduction; the reduced axes stay, with the size 1."""
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        if op == "ReduceSum":
            return self.write(op, [x, self._integers(axes)], shape, keepdims=1)
        return self.write(op, [x], shape, axes=list(axes), keepdims=1)

    def multiply_along(self, x: Tensor, axis: int, matrix: NDArray[Any]) -> Tensor:
        """Add the multiplication of every line along an axis by a matrix (new size, size)."""
        last = len(x.shape) - 1
        turned = self.swap(x, axis, last)
        product = self.write("MatMul", [turned, self.constant(matrix.T)], (*turned.shape[:-1], len(matrix)))
        return self.swap(product, axis, last)

    def pad(self, x: Tensor, sides: Sequence[tuple[int, int]], mode: str = "constant", fill: float = 0.0) -> Tensor:
        """Add elements before and after each axis.

        :param mode: ``constant``, ``edge`` or ``reflect``.
        """
        if not any(before or after for before, after in sides):
            return x
        widths = self._integers([before for before, _after in sides] + [after for _before, after in sides])
        inputs = [x, widths, self.number(fill)] if mode == "constant" else [x, widths]
        shape = [size + before + after for size, (before, after) in zip(x.shape, sides, strict=True)]
        return self.write("Pad", inputs, shape, mode=mode)

    def save(self, path: Path, output: Tensor, name: str) -> None:
        """Write the graph to a file, with one output."""
        import onnx

        result = self._unique(name)
        self._nodes.append(onnx.helper.make_node("Identity", [output.name], [result], name=result))
        if output.values is not None:
            self._constants[output.name] = output.values
        graph = onnx.helper.make_graph(
            self._nodes,
            "network",
            [onnx.helper.make_tensor_value_info(self.input.name, onnx.TensorProto.FLOAT, self.input.shape)],
            [onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, output.shape)],
            [onnx.numpy_helper.from_array(values, key) for key, values in self._constants.items()],
        )
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(graph, producer_name=PRODUCER, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.save(model, str(path))

    def _integers(self, values: Sequence[int]) -> Tensor:
        return self.constant(np.array(values, np.int64))

    def _unique(self, name: str) -> str:
        """Return the name, with a number if an array has it already."""
        self._names[name] += 1
        count = self._names[name]
        return name if count == 1 else self._unique(f"{name}:{count}")
