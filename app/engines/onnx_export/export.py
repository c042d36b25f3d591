"""Export of networks in MXNet's format as ONNX.

The file computes one row at a time, (1, …) -> (1, …), because MXNet's graphs may join the batch with other axes. It is
written in ONNX, and not by OpenVINO, because ONNX runs everywhere.
"""

from __future__ import annotations

from pathlib import Path

import app.engines.onnx_export.elementwise
import app.engines.onnx_export.layers
import app.engines.onnx_export.layout
import app.engines.onnx_export.pooling  # noqa: F401
from app.engines.base import Network
from app.engines.onnx_export.operators import OPERATORS, Call
from app.engines.onnx_export.writer import Tensor, Writer
from app.errors import ModelFormatError
from app.formats.mxnet_graph import Node, graph_of, needed_by

STATES = ("moving_mean", "moving_var")
NORMALIZATIONS = ("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm")


def export_onnx(network: Network, path: Path) -> None:
    """Write a network as an ONNX file for one row at a time.

    :raises ModelFormatError: if it has an operation that cannot be written, which the error names with its node, or a
        parameter that is missing or of a wrong shape.
    """
    if min(network.row_shape, default=0) < 1:
        raise ModelFormatError(f"its input {network.row_shape} has no fixed size")
    graph = Writer(network.input_name, (1, *network.row_shape))
    output, name = _write(network, graph)
    if output.shape[:1] != (1,):
        raise ModelFormatError(f"its output {name} has the shape {output.shape} for one picture, not one row")
    graph.save(path, output, name)


def _write(network: Network, graph: Writer) -> tuple[Tensor, str]:
    """Write the nodes that the first output needs; return that output and its name."""
    nodes = graph_of(network.document, "the network").nodes
    entries: list[list[list[int]]] = [item["inputs"] for item in network.document["nodes"]]
    head = network.document["heads"][0]
    outputs: dict[int, tuple[Tensor, ...]] = {}
    for number in sorted(needed_by([node.inputs for node in nodes], head[0])):
        node = nodes[number]
        if node.op == "null":
            found = _array(network, graph, node.name)
            outputs[number] = () if found is None else (found,)
        else:
            outputs[number] = _call(network, graph, node, [_output(nodes, outputs, entry) for entry in entries[number]])
    answer = _output(nodes, outputs, head)
    if answer is None:
        raise ModelFormatError(f"its output {nodes[head[0]].name} is an array that its parameters do not hold")
    return answer, nodes[head[0]].name


def _output(nodes: tuple[Node, ...], outputs: dict[int, tuple[Tensor, ...]], entry: list[int]) -> Tensor | None:
    """Return the array that ``[node, output, …]`` points to; None for one that the parameters lack, such as a label."""
    number, output = entry[0], entry[1] if len(entry) > 1 else 0
    if not outputs[number]:
        return None
    if output >= len(outputs[number]):
        node = nodes[number]
        raise ModelFormatError(f"output {output} of the operation {node.op} cannot be converted (node {node.name})")
    return outputs[number][output]


def _array(network: Network, graph: Writer, name: str) -> Tensor | None:
    if name == network.input_name:
        return graph.input
    return graph.constant(network.arrays[name], name) if name in network.arrays else None


def _call(network: Network, graph: Writer, node: Node, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
    """Write one operation, and return its outputs."""
    function = OPERATORS.get(node.op)
    if function is None:
        raise ModelFormatError(
            f"the operation {node.op} cannot be converted (node {node.name}); MXNet itself serves it, with the engine "
            "mxnet, or rewrite the network without it"
        )
    graph.scope = node.name
    if inputs and inputs[0] is None:
        return ()
    present = [tensor for tensor in inputs if tensor is not None]
    if None in inputs[: len(present)]:
        raise ModelFormatError(f"a parameter of the operation {node.op} is missing (node {node.name})")
    if node.op in NORMALIZATIONS and len(inputs) == 3:  # before MXNet 0.9 states were no inputs
        present += [state for role in STATES if (state := _array(network, graph, f"{node.name}_{role}")) is not None]
    try:
        made = function(Call(node, tuple(present), graph))
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # attributes are texts of any content
        raise ModelFormatError(f"the operation {node.op} does not fit (node {node.name}): {error}") from None
    return (made,) if isinstance(made, Tensor) else tuple(made)
