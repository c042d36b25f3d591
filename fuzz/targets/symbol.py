"""MXNet's ``-symbol.json`` graphs, and their inferred input."""

from __future__ import annotations

from pathlib import Path

from app.formats.mxnet_describe import describe_checkpoint
from app.formats.mxnet_graph import read_graph
from fuzz import seeds
from fuzz.mutations import json_values
from fuzz.target import Target


def read(path: Path) -> object:
    """Read a graph, and infer its input from the weights of the seeds."""
    graph = read_graph(path)
    flat = any(node.op == "Pooling" and not node.flag("global_pool") for node in graph.nodes)
    shapes = seeds.FLAT_SHAPES if flat else seeds.SHAPES
    facts = describe_checkpoint(graph, {f"arg:{name}": shape for name, shape in shapes.items()}, path)
    assert len(facts.input_shape) == 4 and min(facts.input_shape[1:]) > 0, facts
    return facts


TARGET = Target("symbol", "-symbol.json", seeds.symbols, json_values.mutate, read)
