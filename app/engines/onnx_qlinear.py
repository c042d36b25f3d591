"""Quantized operations of ONNX as operations on floats between ``DequantizeLinear`` and ``QuantizeLinear``.

ONNX Runtime's quantizer writes such operations, in the format QOperator, and the quantized networks of ONNX's model zoo
consist of them. OpenVINO 2026.4 computes some of them wrongly, and does not know all of those of ``com.microsoft``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
"""Operations with the inputs X, its scale and zero point, and the result's scale and zero point."""
BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearMatMul": "MatMul"}
"""Operations with the inputs A and B, each with its scale and zero point, and the result's scale and zero point."""
QUANTIZED = ("QLinear", "QGemm")
"""Beginnings of the names of all of them."""
LAYERS = ("QLinearConv", "QGemm")
"""Operations with a bias, whose weights must be constants."""
OWN = ("opset", "channels_last")
"""Attributes that the operations on floats do not have."""


def rewrite_quantized(graph: Any) -> None:
    """Rewrite a graph's quantized operations.

    Weights become floats, so the graph needs no quantization by channels, which older opsets lack.

    Operations with channels last, and layers whose weights are computed, stay. The weights must have been loaded.
    """
    rewriter = _Rewriter(graph)
    nodes = [made for node in graph.node for made in rewriter.rewritten(node)]
    del graph.node[:]
    graph.node.extend(nodes)


class _Rewriter:
    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._arrays = {array.name: array for array in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._arrays[node.output[0]] = node.attribute[0].t
        self._made: dict[tuple[str, ...], str] = {}
        self._nodes: list[Any] = []

    def rewritten(self, node: Any) -> list[Any]:
        """Return the nodes that compute what a node does."""
        kind, inputs = node.op_type, list(node.input)
        if any(item.name == "channels_last" and item.i for item in node.attribute):
            return [node]
        if kind in LAYERS and not {name for name in (inputs[1], *inputs[3:]) if name} <= set(self._arrays):
            return [node]
        self._nodes = []
        if kind in UNARY:
            self._put(node, UNARY[kind], [self._float(inputs[:3])], inputs[3:])
        elif kind in BINARY:
            self._put(node, BINARY[kind], [self._float(inputs[:3]), self._float(inputs[3:6], -1)], inputs[6:])
        elif kind == "QLinearConcat":
            parts = [self._float(inputs[number : number + 3]) for number in range(2, len(inputs), 3)]
            self._put(node, "Concat", parts, inputs[:2])
        elif kind in LAYERS:
            if kind == "QGemm":
                inputs = [*inputs[:6], *inputs[7:9], *inputs[6:7]]
            rows = kind == "QLinearConv" or any(item.name == "transB" and item.i for item in node.attribute)
            operands = [self._float(inputs[:3]), self._float(inputs[3:6], 0 if rows else -1)]
            if len(inputs) > 8 and inputs[8]:
                operands.append(self._bias(inputs[8], inputs[1], inputs[4]))
            self._put(node, kind.removeprefix("QLinear").removeprefix("Q"), operands, inputs[6:8])
        else:
            return [node]
        return self._nodes

    def _put(self, node: Any, kind: str, operands: Sequence[str], result: Sequence[str]) -> None:
        """Add an operation on floats, and the quantization of its result unless that is a float itself."""
        output = node.output[0]
        name = f"{output} in floats" if any(result) else output
        made = self._add(kind, operands, name)
        made.attribute.extend(item for item in node.attribute if item.name not in OWN)
        if any(result):
            self._add("QuantizeLinear", [name, *(item for item in result if item)], output)

    def _float(self, value: Sequence[str], axis: int | None = None) -> str:
        """Return the name of a quantized value as floats; ``value`` has its name, its scale and its zero point.

        :param axis: the axis of the scales if there are several.
        """
        key = tuple(item for item in value if item)
        if key in self._made:
            return self._made[key]
        name = self._made[key] = f"{key[0]} as floats of {key[1]}"
        if all(item in self._arrays for item in key):
            array, scale, *zero = map(self._array, key)
            shape = [-1 if place == (axis or 0) % max(1, array.ndim) else 1 for place in range(array.ndim)]
            sides = [side.reshape(shape) if side.ndim and side.size > 1 else side for side in (scale, *zero)]
            floats = array.astype(np.float32) - (sides[1].astype(np.float32) if zero else 0)
            self._store(floats * sides[0], name)
        else:
            self._add("DequantizeLinear", key, name)
        return name

    def _bias(self, bias: str, scale: str, weights_scale: str) -> str:
        """Return the name of a bias as floats: its scale is the product of the input's and the weights'."""
        name = f"{bias} as floats of {scale}"
        product = self._array(scale) * self._array(weights_scale)
        self._store(self._array(bias).astype(np.float32) * product.reshape(-1), name)
        return name

    def _add(self, kind: str, inputs: Sequence[str], output: str) -> Any:
        import onnx

        self._nodes.append(onnx.helper.make_node(kind, list(inputs), [output], name=output))
        return self._nodes[-1]

    def _store(self, array: Any, name: str) -> None:
        import onnx

        self._graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))

    def _array(self, name: str) -> Any:
        import onnx

        return onnx.numpy_helper.to_array(self._arrays[name])
