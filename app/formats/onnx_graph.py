"""An ONNX graph reduced to the nodes that one of its outputs needs.

Other outputs, a loss, or the class as a text may need operations, inputs and types that no engine here supports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ModelFormatError
from app.formats.inference import Kind, Output
from app.formats.labels import labels_of
from app.formats.pixels import Normalisation, arithmetic
from app.formats.signature import signature_of
from app.types import Signature
from app.utils.error_text import reason_of
from app.utils.files import refuse_pointer
from app.utils.json import parse_json

OPSETS = range(7, 25)
"""Opsets that OpenVINO 2026.4 supports."""
SIGNATURE, LABELS = "signature", "labels"
"""Entries of the metadata in which Dimple's exports store what ONNX has no place for."""
LABEL_ENTRIES = (LABELS, "names", "classes", "class_names")
FLOATS = (1, 10, 11, 16)
"""``TensorProto.DataType`` of float, float16, double and bfloat16."""
SIGNED_BYTES = 3
"""``TensorProto.DataType`` of int8."""
LARGEST_CONSTANT = 4_000_000
"""The largest number of values of a constant that may be a mean picture; larger constants are weights."""

DISTRIBUTIONS = ("Softmax", "Sigmoid", "HardSigmoid", "QLinearSoftmax", "QLinearSigmoid")
LOGITS = (
    *("Gemm", "MatMul", "Conv", "LogSoftmax"),
    *("QGemm", "QLinearMatMul", "QLinearConv", "MatMulInteger", "ConvInteger"),
)
NORMALISATIONS = ("BatchNormalization", "LpNormalization", "LayerNormalization", "InstanceNormalization")
SHAPES_ALONE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout", "Transpose")
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
PASSES = (*SHAPES_ALONE, *QUANTIZERS, "Clip", "ZipMap")
"""Operations that do not change probabilities."""
ACTIVATIONS = ("Relu", "LeakyRelu", "PRelu", "HardSwish", "Elu", "Mul", "QLinearLeakyRelu", "QLinearMul")
MEANS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
POOLS = (*MEANS, *(f"QLinear{name}" for name in MEANS), "GlobalMaxPool")


@dataclass(frozen=True)
class OnnxFacts:
    """The facts of an ONNX file. ``input_shape`` has the batch axis; 0 stands for any size.

    ``element_type`` is the input's ``TensorProto.DataType``. ``normalisation`` is the graph's own normalisation of its
    input. ``signature`` and ``labels`` are from the file's metadata, None if it has none.
    """

    opset: int
    producer: str
    input_name: str
    input_shape: tuple[int, ...]
    element_type: int
    outputs: tuple[Output, ...]
    files: tuple[Path, ...]
    normalisation: Normalisation = field(default_factory=Normalisation.none)
    metadata: dict[str, str] = field(default_factory=dict)
    signature: Signature | None = None
    labels: tuple[str, ...] | None = None


def read_onnx(path: Path) -> OnnxFacts:
    """Read an ``.onnx`` file's graph, without weights that are in other files.

    :raises ModelFormatError: if the file cannot be read, is of an unknown opset, does not have exactly one input, or
        has weights anywhere but in itself and beside it.
    """
    model = load_onnx(path)
    try:
        return _facts(path, model)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError, OSError) as error:
        # texts that are not UTF-8, and names that no file system can hold
        raise ModelFormatError(f"{path} cannot be read as an ONNX model: {reason_of(error)}") from None


def load_onnx(path: Path) -> Any:
    """Return an ``.onnx`` file's ``onnx.ModelProto``, without weights that are in other files.

    It is not validated: onnx's own checker knows fewer versions of the format than OpenVINO does.

    :raises ModelFormatError: if the file cannot be read.
    """
    import onnx

    refuse_pointer(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # protobuf's own errors, of many types
        raise ModelFormatError(f"{path} cannot be read as an ONNX model: {reason_of(error)}") from None
    if not model.graph.node:
        raise ModelFormatError(f"{path} cannot be read as an ONNX model: it holds no operations")
    return model


def _facts(path: Path, model: Any) -> OnnxFacts:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        raise ModelFormatError(f"{path} is of opset {opset}; {OPSETS[0]} to {OPSETS[-1]} can be opened")
    files = weight_files(path, model)
    data = _input(path, model.graph)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    makers = {output: node for node in model.graph.node for output in node.output}
    return OnnxFacts(
        opset=opset,
        producer=model.producer_name,
        input_name=data.name,
        input_shape=_shape(data),
        element_type=data.type.tensor_type.elem_type,
        outputs=tuple(_output(output, makers) for output in model.graph.output),
        files=files,
        normalisation=_normalisation(model.graph, data.name),
        metadata=metadata,
        signature=_signature(path, metadata.get(SIGNATURE), data.name),
        labels=next(
            (labels for name in LABEL_ENTRIES if (labels := _labels(metadata.get(name)))), _zipped(model.graph)
        ),
    )


def external_data(model: Any) -> dict[str, str]:
    """Return the external files of a model's weights. They may belong to arrays of its graph and functions, of their
    nodes, and of the graphs in these nodes.

    :param model: an ``onnx.ModelProto``.
    :returns: location -> name of an array stored there.
    """
    arrays = list(model.graph.initializer)
    sparse = list(model.graph.sparse_initializer)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        for attribute in nodes.pop().attribute:
            arrays += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                arrays += graph.initializer
                sparse += graph.sparse_initializer
                nodes += graph.node
    arrays += [half for both in sparse for half in (both.values, both.indices)]
    return {entry.value: array.name for array in arrays for entry in array.external_data if entry.key == "location"}


def weight_files(path: Path, model: Any) -> tuple[Path, ...]:
    """Return the external files of weights.

    They must be beside the model, because another path could be any file on this machine.

    :raises ModelFormatError: if a file is elsewhere, is missing, or is a symbolic link.
    """
    places = external_data(model)
    for place, name in places.items():
        if "/" in place or "\\" in place or place in ("", ".."):
            raise ModelFormatError(
                f"{path} keeps the weights {name} in {place!r}, outside of its folder; "
                "put all into one file with onnx.save"
            )
    files = tuple(path.parent / place for place in sorted(places))
    for file in files:
        if not file.is_file() or file.is_symlink():
            raise ModelFormatError(f"{path} keeps weights in {file.name!r}, which is not there beside it")
    return files


def fed_inputs(graph: Any) -> list[Any]:
    """Return the inputs of a graph that are not weights."""
    learned = {item.name for item in graph.initializer}
    return [item for item in graph.input if item.name not in learned]


def _input(path: Path, graph: Any) -> Any:
    fed = fed_inputs(graph)
    if len(fed) != 1 or not graph.output:
        names = ", ".join(item.name for item in fed[:4]) or "none"
        raise ModelFormatError(f"{path} has {len(fed)} inputs ({names}); an image classifier has one")
    return fed[0]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(max(0, axis.dim_value) for axis in value.type.tensor_type.shape.dim)


def _output(output: Any, makers: dict[str, Any]) -> Output:
    is_float = output.type.tensor_type.elem_type in (0, *FLOATS)  # 0: some writers omit the type
    return Output(output.name, _shape(output), _kind(makers, output.name), is_float)


def _kind(makers: dict[str, Any], name: str) -> Kind:
    node = _behind(makers, name, PASSES)
    if node is None:
        return "unknown"
    if node.op_type in DISTRIBUTIONS:
        return "distribution"
    if node.op_type in POOLS:
        source = _behind(makers, node.input[0], (*SHAPES_ALONE, *QUANTIZERS, *ACTIVATIONS, "Clip"))
        if source is None:
            return "unknown"
        return "logits" if source.op_type in LOGITS else "features"
    if node.op_type in NORMALISATIONS or _divides_by_norm(makers, node):
        return "features"
    if node.op_type in ("Add", "QLinearAdd"):  # a layer and its bias
        sources = [_behind(makers, operand, PASSES) for operand in node.input]
        return "logits" if any(source is not None and source.op_type in LOGITS for source in sources) else "unknown"
    return "logits" if node.op_type in LOGITS else "unknown"


def _divides_by_norm(makers: dict[str, Any], node: Any) -> bool:
    if node.op_type != "Div" or len(node.input) != 2:
        return False
    divisor = _behind(makers, node.input[1], (*PASSES, "Expand", "Max", "Sqrt"))
    return divisor is not None and divisor.op_type in ("ReduceL2", "ReduceSumSquare")


def _behind(makers: dict[str, Any], name: str, passed: tuple[str, ...]) -> Any:
    """Return the node that computes an array, skipping the operations in ``passed``; None if there is none."""
    node = makers.get(name)
    for _ in makers:  # each at most once, because a broken graph may have a cycle
        if node is None or node.op_type not in passed or not node.input:
            break
        node = makers.get(node.input[0])
    return node


def _normalisation(graph: Any, name: str) -> Normalisation:
    """Return a graph's normalisation of its input, up to the first layer that uses more than one pixel."""
    constants = {array.name: array for array in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            constants[node.output[0]] = node.attribute[0].t
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for operand in node.input:
            users.setdefault(operand, []).append(node)
    normalisation = Normalisation.none()
    for _ in graph.node:
        if normalisation.learned or len(users.get(name, ())) != 1:
            break
        node = users[name][0]
        step = _step(normalisation, node, name, constants)
        if step is None or not node.output:
            break
        normalisation, name = step, node.output[0]
    return normalisation


def _step(before: Normalisation, node: Any, name: str, constants: dict[str, Any]) -> Normalisation | None:
    """Return the normalisation after one more operation; None if the operation is not part of a normalisation."""
    kind, label = node.op_type, f"{node.op_type} {node.name}".rstrip()
    others = [_constant(constants.get(operand)) for operand in node.input if operand != name]
    is_first = node.input[0] == name
    if kind in (*SHAPES_ALONE, *QUANTIZERS, "Pad", "Resize") and is_first:
        return before
    if kind == "Gather" and others and others[0] is not None and others[0].ravel().tolist() == [2, 1, 0]:
        return before.turned(label)
    if kind == "Slice" and len(others) == 4 and others[3] is not None and others[3].ravel().tolist() == [-1]:
        return before.turned(label)
    if kind == "BatchNormalization" and len(others) == 4 and others[2] is not None and others[3] is not None:
        return before.standardised(others[2], others[3], label)
    if len(others) != 1 or others[0] is None:
        return None
    return arithmetic(before, kind.lower(), others[0], is_first, label)


def _constant(array: Any) -> Any:
    """Return a constant's values in 64 bits; None if there is none, or it is not a small array of numbers."""
    import onnx

    if array is None or array.external_data or np.prod(array.dims, dtype=np.float64) > LARGEST_CONSTANT:
        return None
    try:
        return np.asarray(onnx.numpy_helper.to_array(array), np.float64)
    except (TypeError, ValueError):
        return None


def _signature(path: Path, text: str | None, input_name: str) -> Signature | None:
    """Return the signature that Dimple wrote into the metadata; None for another program's entry of that name."""
    try:
        signature = signature_of(parse_json(text), path) if text else None
    except (ModelFormatError, ValueError, TypeError):
        return None
    return signature if signature is not None and signature.inputs[0].name == input_name else None


def _zipped(graph: Any) -> tuple[str, ...] | None:
    """Return the labels that a graph's ZipMap gives its row, as Custom Vision and scikit-learn export them."""
    attributes = (each for node in graph.node if node.op_type == "ZipMap" for each in node.attribute)
    for each in attributes:
        if each.name == "classlabels_strings" and each.strings:
            return tuple(" ".join(label.decode(errors="replace").split()) for label in each.strings)
    return None


def _labels(text: str | None) -> tuple[str, ...] | None:
    """Return the labels of a metadata entry: JSON, or a list or dictionary in Python's notation."""
    if not text:
        return None
    try:
        return labels_of(parse_json(text))
    except (ValueError, TypeError):
        pass
    try:
        document = ast.literal_eval(text)
        if isinstance(document, dict):
            document = {str(key): value for key, value in document.items()}
        return labels_of(document)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None  # another program's entry of that name


def prune(model: Any, output: str) -> None:
    """Remove everything from a model that one output does not need.

    A ``ZipMap`` at the end, which the exporters of scikit-learn and Custom Vision write, is removed too: it turns a row
    into a dictionary for each picture, with the classes as keys.

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
    _keep_elements(graph.node, [number in nodes for number in range(len(graph.node))])
    _keep_elements(graph.initializer, [array.name in needed for array in graph.initializer])
    _keep_elements(graph.sparse_initializer, [array.values.name in needed for array in graph.sparse_initializer])
    _keep_elements(graph.input, [value.name in needed for value in graph.input])
    _keep_elements(graph.output, [value.name == output for value in graph.output])
    if tensor != output:
        types = [value for value in graph.value_info if value.name == tensor]
        graph.output[0].Clear()
        if types:
            graph.output[0].CopyFrom(types[0])
        else:
            graph.output[0].name = tensor


def sort_nodes(graph: Any) -> None:
    """Put the nodes of a graph into an order in which they can be computed.

    :raises graphlib.CycleError: if there is none.
    """
    nodes = list(graph.node)
    producers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    order = TopologicalSorter(
        {number: [producers[name] for name in _inputs(node) if name in producers] for number, node in enumerate(nodes)}
    ).static_order()
    ordered = [nodes[number] for number in order]
    del graph.node[:]
    graph.node.extend(ordered)


def _inputs(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, including names of the surrounding graph that its inner graphs read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _inputs(inner)


def _keep_elements(repeated: Any, is_kept: list[bool]) -> None:
    for number in range(len(is_kept) - 1, -1, -1):
        if not is_kept[number]:
            del repeated[number]
