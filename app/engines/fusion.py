"""MXNet's fusion on the CPU: more than twice as fast, and wrong for some networks, which are computed without it.

MXNet 1.9.1 joins a convolution with the normalization, the addition and the activation that follow it, by default in
every graph. Where the convolution's (or the normalization's) own array is also an operand of an addition, as in
residual networks that normalize first, the array is gone by then: the numbers are wrong by tenths, or binding fails.
It also joins normalizations along another axis than the channels', as if they were along these; that corrupts memory.
"""

from __future__ import annotations

from typing import Any

from app.formats.graph import Graph

ADDITIONS = frozenset({"elemwise_add", "_plus", "_Plus", "_add"})
FOLLOWERS = ADDITIONS | {"BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "sigmoid", "tanh"}
"""What is joined with the convolution before it."""


def fuse(symbol: Any, graph: Graph) -> Any:
    """Give MXNet's symbol, fused where that is safe, to be bound on the CPU. Changes nothing of what it computes.

    :param graph: the same network as read by Dimple.
    """
    return symbol.get_backend_symbol("MKLDNN") if is_safe(graph) else symbol


def is_safe(graph: Graph) -> bool:
    """Say whether no array that an addition needs would be lost inside what is joined, and all of it is by channels."""
    if any(node.op == "BatchNorm" and node.number("axis", 1) != 1 for node in graph.nodes):
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
