"""An MXNet graph in the words that MXNet's own exporter to ONNX knows, and reads rightly.

The exporter of MXNet 1.9.1 refuses some graphs that it could write, and writes some wrongly without a word:

- a loss at the end asks for labels that nobody feeds: it is rewritten as what it answers;
- a normalization with ``fix_gamma``, which is the default, has a scale of 1 whatever its parameter says; the exporter
  writes the parameter;
- a normalization along another axis than 1 is refused: its axes are swapped before and after;
- a fully connected layer does not lay out the maps that it is given: that is done before it;
- the special numbers of ``Reshape`` are refused: for one row the shape that comes of them is known, and written;
- pooling that rounds up is counted otherwise at the edges: with steps of one there is nothing to round;
- a ``Deconvolution`` is taken to have a bias where it does not say, while by default it has none;
- longs of Python 2 (``32L``) stop its parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

JsonNode = dict[str, Any]
Entry = list[int]
Arrays = dict[str, NDArray[Any]]

UNCHANGED = ("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss", "BlockGrad")
"""Losses, and what keeps gradients back: each answers with its first input."""


def rewrite(
    document: dict[str, Any], arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], Arrays]:
    """Rewrite a graph and its parameters; both are left as they are.

    :param document: a symbol's JSON, as MXNet 1.9 writes it.
    :param arrays: the parameters by their bare names.
    :param shapes: what each node with one output gives for one row, by the node's name.
    :returns: the graph of the first head alone, and the parameters, which answer the same.
    """
    writer = _Writer(document["nodes"], arrays, shapes)
    for node in document["nodes"]:
        writer.write(node)
    answer = writer.entry(document["heads"][0])
    # "attrs" tells the version of MXNet, without which it takes the file for one of its oldest
    graph = {"nodes": writer.nodes, "arg_nodes": writer.fed(), "heads": [answer], "attrs": document.get("attrs", {})}
    return graph, writer.arrays


class _Writer:
    """The new graph, as far as it is written."""

    def __init__(self, old: list[JsonNode], arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._old = old
        self._shapes = shapes
        self._places: list[Entry] = []  # where the first output of each old node is in the new graph
        self.nodes: list[JsonNode] = []
        self.arrays = dict(arrays)

    def entry(self, old: Entry) -> Entry:
        number, output = self._places[old[0]][:2]
        return [number, output + old[1], 0]

    def fed(self) -> list[int]:
        return [number for number, node in enumerate(self.nodes) if node["op"] == "null"]

    def write(self, node: JsonNode) -> None:
        attrs = {
            name: re.sub(r"\b(\d+)L\b", r"\1", str(value))
            for name, value in (node.get("attrs") or {}).items()
            if not name.startswith("__")  # hints for training and for the inference of shapes
        }
        inputs = [self.entry(one) for one in node["inputs"]]
        self._places.append(self._translate(node["op"], node["name"], attrs, inputs, node["inputs"]))

    def _translate(self, op: str, name: str, attrs: dict[str, str], inputs: list[Entry], old: list[Entry]) -> Entry:
        if op in UNCHANGED:
            return inputs[0]
        if op == "LogisticRegressionOutput":
            return self._add("sigmoid", name, {}, inputs[:1])
        if op in ("SoftmaxOutput", "SoftmaxActivation"):
            return self._softmax(op, name, attrs, inputs[:1])
        if op == "BatchNorm":
            return self._normalize(name, attrs, inputs, old)
        if op == "FullyConnected" and _is_true(attrs.get("flatten", "True")):
            inputs = [self._add("Flatten", f"{name}_flat", {}, inputs[:1]), *inputs[1:]]
        if op == "Reshape" and name in self._shapes:
            attrs = {"shape": str(self._shapes[name])}
        if op == "Pooling" and set(re.findall(r"\d+", attrs.get("stride", "1"))) <= {"1"}:
            attrs = {**attrs, "pooling_convention": "valid"}
        if op == "Deconvolution":
            attrs = {"no_bias": "True", **attrs}
        return self._add(op, name, attrs, inputs)

    def _softmax(self, op: str, name: str, attrs: dict[str, str], inputs: list[Entry]) -> Entry:
        """Over channels where they say so; otherwise the loss is over the last axis, the activation over all."""
        channels = attrs.get("mode") == "channel" or _is_true(attrs.get("multi_output", ""))
        if op == "SoftmaxActivation" and not channels:
            inputs = [self._add("Flatten", f"{name}_flat", {}, inputs)]
        return self._add("softmax", name, {"axis": "1" if channels else "-1"}, inputs)

    def _normalize(self, name: str, attrs: dict[str, str], inputs: list[Entry], old: list[Entry]) -> Entry:
        if _is_true(attrs.get("fix_gamma", "True")):
            scale = self._old[old[1][0]]["name"]
            if scale in self.arrays:
                self.arrays[scale] = np.ones_like(self.arrays[scale])
        axis = int(attrs.get("axis", "1"))
        if axis <= 1:
            return self._add("BatchNorm", name, attrs, inputs)
        swap = {"dim1": "1", "dim2": str(axis)}
        turned = self._add("SwapAxis", f"{name}_turned", swap, inputs[:1])
        computed = self._add("BatchNorm", f"{name}_axis1", {**attrs, "axis": "1"}, [turned, *inputs[1:]])
        return self._add("SwapAxis", name, swap, [computed])

    def _add(self, op: str, name: str, attrs: dict[str, str], inputs: list[Entry]) -> Entry:
        node: JsonNode = {"op": op, "name": name, "inputs": inputs}
        self.nodes.append({**node, "attrs": attrs} if attrs else node)
        return [len(self.nodes) - 1, 0, 0]


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1")
