"""MXNet's fusion on the CPU: more than twice as fast, and wrong for some networks, which are computed without it.

MXNet 1.9.1 joins a convolution with the normalization, the addition and the activation that follow it, by default in
every graph. Where the convolution's (or the normalization's) own array is also an operand of an addition, as in
residual networks that normalize first, the array is gone by then: the numbers are wrong by tenths, or binding fails.
It also joins normalizations along another axis than the channels', as if they were along these; that corrupts memory.
Its fully connected layer cannot read maps of 1 x 1 as convolutions leave them: the first batch is computed, every other
ends in "can't generate TBlob for MKLDNN data". Maps are laid out flat before it, as it does by itself otherwise.
"""

from __future__ import annotations

import json
from typing import Any

from app.formats.graph import Graph

ADDITIONS = frozenset({"elemwise_add", "_plus", "_Plus", "_add"})
FOLLOWERS = ADDITIONS | {"BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "sigmoid", "tanh"}
"""What is joined with the convolution before it."""


def fuse(symbol: Any, graph: Graph) -> Any:
    """Give MXNet's symbol, fused where that is safe, to be bound on the CPU. Changes nothing of what it computes.

    :param graph: the same network as read by Dimple.
    """
    if not is_safe(graph):
        return symbol
    import mxnet as mx

    return mx.sym.load_json(json.dumps(_flattened(json.loads(symbol.tojson())))).get_backend_symbol("MKLDNN")


def is_safe(graph: Graph) -> bool:
    """Say whether no array that an addition needs would be lost inside what is joined, all of it is by channels, and
    maps can be laid out flat before every fully connected layer."""
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
        any(op in ADDITIONS for op in users[number]) and sum(op in FOLLOWERS for op in users[number]) > 1
        for number in starts
    )


def _flattened(document: dict[str, Any]) -> dict[str, Any]:
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
    attrs = document.get("attrs", {})  # without MXNet's version it would be read as one of its oldest files
    return {"nodes": nodes, "arg_nodes": arrays, "heads": moved(document["heads"]), "attrs": attrs}


def _flattens(attrs: dict[str, str]) -> bool:
    return attrs.get("flatten", "True").lower() in ("true", "1")
