"""An ONNX graph cut down to what one of its outputs needs.

Other outputs, a loss, or the class as a text may need operations, inputs and types that no engine here knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def prune(model: Any, output: str) -> None:
    """Remove from a model all that one output does not need.

    The ``ZipMap`` with which scikit-learn's and Custom Vision's exporters end is removed too: it makes of a row a
    dictionary for each picture, with the classes as keys.

    :param model: an ``onnx.ModelProto``, changed in place. Its nodes may be in any order.
    :param output: the name of one of its outputs.
    """
    graph = model.graph
    producers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    tensor = output
    if output in producers and graph.node[producers[output]].op_type == "ZipMap":
        tensor = graph.node[producers[output]].input[0]
    needed, nodes, waiting = {tensor}, set(), [tensor]
    while waiting:
        number = producers.get(waiting.pop())
        if number is not None and number not in nodes:
            nodes.add(number)
            new = set(_inputs(graph.node[number])) - needed
            needed |= new
            waiting += new
    _keep(graph.node, [number in nodes for number in range(len(graph.node))])
    _keep(graph.initializer, [array.name in needed for array in graph.initializer])
    _keep(graph.sparse_initializer, [array.values.name in needed for array in graph.sparse_initializer])
    _keep(graph.input, [value.name in needed for value in graph.input])
    _keep(graph.output, [value.name == output for value in graph.output])
    if tensor != output:
        types = [value for value in graph.value_info if value.name == tensor]
        graph.output[0].Clear()
        graph.output[0].CopyFrom(types[0]) if types else graph.output[0].MergeFrom(_untyped(tensor))


def _inputs(node: Any) -> Iterator[str]:
    """The names that a node reads, those of the surrounding graph that its own graphs read among them."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _inputs(inner)


def _keep(repeated: Any, kept: list[bool]) -> None:
    for number in range(len(kept) - 1, -1, -1):
        if not kept[number]:
            del repeated[number]


def _untyped(name: str) -> Any:
    import onnx

    return onnx.helper.make_empty_tensor_value_info(name)
