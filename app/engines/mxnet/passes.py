"""Rewrites of MXNet graphs: biases merged, unsafe fusion found, operators for the exporter to ONNX.

With a merged bias MXNet computes convolution and bias in one step, and can fuse the activation too: the smile network
takes 1.07 ms instead of 1.25.

By default MXNet 1.9.1 fuses a convolution with the normalization, the addition and the activation that follow it, in
every graph. If the array of the convolution (or the normalization) is also an operand of an addition, as in residual
networks that normalize first, the array is gone by then: the numbers are wrong by tenths, or binding fails. MXNet also
fuses normalizations along another axis than the channels' as if they were along the channels; that corrupts memory. Its
fully connected layer cannot read 1 x 1 feature maps as convolutions leave them: the first batch is computed, and every
later one fails with "can't generate TBlob for MKLDNN data". So the maps are flattened before that layer, as MXNet does
by itself otherwise.

The exporter of MXNet 1.9.1 rejects some graphs that it could write, and silently writes some wrongly:

- a loss at the end requires labels that nobody feeds: it is replaced by its output;
- a normalization with ``fix_gamma``, which is the default, has a scale of 1 whatever its parameter says; the exporter
  writes the parameter;
- a normalization along another axis than 1 is rejected: its axes are swapped before and after;
- a fully connected layer does not flatten its input: a Flatten is inserted before it;
- the special numbers of ``Reshape`` are rejected: the resulting shape for one row is known, and written instead;
- pooling that rounds up is counted differently at the edges: with a stride of 1 there is nothing to round;
- a ``Deconvolution`` without ``no_bias`` is assumed to have a bias, while its default is none;
- longs of Python 2 (``32L``) stop its parser.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.formats.mxnet_graph import Graph

BROADCAST_ADDITIONS = ("broadcast_add", "broadcast_plus")

Nodes = list[dict[str, Any]]


def merge_biases(document: dict[str, Any]) -> dict[str, Any]:
    """Merge the bias of every convolution into the convolution.

    The pattern is a convolution without a bias, used once, whose output is added to a parameter of one number per
    filter, reshaped to (1, filters, 1, 1). The parameters are unchanged.

    :param document: a symbol's JSON in the format of MXNet 1.x.
    :returns: the same network; unused nodes stay in it, and MXNet ignores them.
    """
    nodes: Nodes = document["nodes"]
    uses = Counter(entry[0] for node in nodes for entry in node["inputs"])
    uses.update(head[0] for head in document["heads"])
    merged = [_merge_bias(node, nodes, uses) or node for node in nodes]
    return {**document, "nodes": merged}


def _merge_bias(node: dict[str, Any], nodes: Nodes, uses: Counter[int]) -> dict[str, Any] | None:
    """Return the convolution with its bias that replaces an addition; None if the addition is something else."""
    if node["op"] not in BROADCAST_ADDITIONS:
        return None
    convolution, row = (nodes[entry[0]] for entry in node["inputs"])
    attrs = convolution.get("attrs") or {}
    if convolution["op"] != "Convolution" or attrs.get("no_bias") != "True" or uses[node["inputs"][0][0]] > 1:
        return None
    if row["op"] != "Reshape" or _numbers(row["attrs"].get("shape", "")) != (1, int(attrs["num_filter"]), 1, 1):
        return None
    bias = row["inputs"][0]
    if nodes[bias[0]]["op"] != "null" or attrs.get("layout", "NCHW") not in ("NCHW", "None"):
        return None
    inputs = [*convolution["inputs"], bias]
    return {"op": "Convolution", "name": node["name"], "attrs": {**attrs, "no_bias": "False"}, "inputs": inputs}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"-?\d+", text))


ELEMENTWISE_ADDITIONS = frozenset({"elemwise_add", "_plus", "_Plus", "_add"})
FOLLOWERS = ELEMENTWISE_ADDITIONS | {"BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "sigmoid", "tanh"}
"""Operations that MXNet fuses with the convolution before them."""


def fuse(symbol: Any, graph: Graph) -> Any:
    """Return MXNet's symbol for the CPU, fused if that is safe. The results are the same.

    :param graph: the same network as read by Dimple.
    """
    if not is_safe(graph):
        return symbol
    import mxnet as mx

    return mx.sym.load_json(json.dumps(_insert_flattens(json.loads(symbol.tojson())))).get_backend_symbol("MKLDNN")


def is_safe(graph: Graph) -> bool:
    """Return whether MXNet's fusion is safe for a graph.

    It is if fusion loses no operand of an addition, all fused operations are by channels, and feature maps can be
    flattened before every fully connected layer.
    """
    if any(node.op == "BatchNorm" and node.number("axis", 1) != 1 for node in graph.nodes):
        return False
    if any(node.op == "FullyConnected" and not _flattens(node.attrs) for node in graph.nodes):
        return False
    users: list[list[str]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for number in node.inputs:
            users[number].append(node.op)
    starts = (number for number, node in enumerate(graph.nodes) if node.op in ("Convolution", "BatchNorm"))
    return not any(
        any(op in ELEMENTWISE_ADDITIONS for op in users[number]) and sum(op in FOLLOWERS for op in users[number]) > 1
        for number in starts
    )


def _insert_flattens(document: dict[str, Any]) -> dict[str, Any]:
    """Return a symbol's JSON with a Flatten before every fully connected layer."""
    nodes: list[dict[str, Any]] = []
    places: list[int] = []

    def moved(entries: list[list[int]]) -> list[list[int]]:
        return [[places[number], *rest] for number, *rest in entries]

    for node in document["nodes"]:
        inputs = moved(node["inputs"])
        if node["op"] == "FullyConnected":
            nodes.append({"op": "Flatten", "name": f"{node['name']}_flat", "inputs": inputs[:1]})
            inputs[0] = [len(nodes) - 1, 0, 0]
        places.append(len(nodes))
        nodes.append({**node, "inputs": inputs})
    arrays = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    attrs = document.get("attrs", {})  # a file without MXNet's version is read as one of the oldest
    return {"nodes": nodes, "arg_nodes": arrays, "heads": moved(document["heads"]), "attrs": attrs}


def _flattens(attrs: dict[str, str]) -> bool:
    return attrs.get("flatten", "True").lower() in ("true", "1")


JsonNode = dict[str, Any]
Entry = list[int]
Arrays = dict[str, NDArray[Any]]

UNCHANGED = ("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss", "BlockGrad")
"""Losses and gradient blocks, whose output is their first input."""


def rewrite(
    document: dict[str, Any], arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], Arrays]:
    """Return a rewritten copy of a graph and its parameters.

    :param document: a symbol's JSON in the format of MXNet 1.9.
    :param arrays: the parameters by their bare names.
    :param shapes: the output shape for one row of each node with one output, by the node's name.
    :returns: the graph of the first head alone, and its parameters, which compute the same.
    """
    writer = _Writer(document["nodes"], arrays, shapes)
    for node in document["nodes"]:
        writer.write(node)
    answer = writer.entry(document["heads"][0])
    # "attrs" holds the version of MXNet; without it MXNet takes the file for one of its oldest
    graph = {"nodes": writer.nodes, "arg_nodes": writer.fed(), "heads": [answer], "attrs": document.get("attrs", {})}
    return graph, writer.arrays


class _Writer:
    """The new graph as written so far."""

    def __init__(self, old: list[JsonNode], arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._old = old
        self._shapes = shapes
        self._places: list[Entry] = []  # position in the new graph of each old node's first output
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
            if not name.startswith("__")  # hints for training and for shape inference
        }
        inputs = [self.entry(item) for item in node["inputs"]]
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
        """Write a softmax.

        It is over the channels if the attributes say so. Otherwise a loss is over the last axis, and an activation over
        all axes.
        """
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
