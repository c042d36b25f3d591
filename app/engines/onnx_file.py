"""Conversion of ONNX files, and of what OpenVINO's other front ends read, to OpenVINO's format."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.cache import MODEL
from app.engines.onnx_qlinear import QUANTIZED, rewrite_quantized
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.onnx_graph import fed_inputs, load_onnx, prune, weight_files
from app.formats.openvino_graph import cut, load_graph, name_of
from app.types import Signature, TensorSpec
from app.utils.openvino_runtime import import_openvino


def convert_file(folder: ModelFolder, signature: Signature, path: Path, in_floats: bool = False) -> Signature:
    """Convert a folder's ONNX file to OpenVINO's format, for one row at a time.

    The output is the one that the signature names, or the first if the signature names none of them. Operations that
    only the other outputs need may be of any kind.

    :param signature: its input shape applies; 0 leaves a size as it is in the file.
    :param path: the folder in which the model is written.
    :param in_floats: whether a network with quantized maps is computed in floats. OpenVINO computes it in 8 bits
        otherwise, which is faster, but wrong on processors without VNNI.
    :returns: the signature with the output's name in the file, and its shape.
    :raises ModelFormatError: if the file cannot be read, has weights elsewhere than beside it, or lacks either a single
        input or an output of fixed shape.
    :raises Exception: of any kind, if OpenVINO cannot convert the file.
    """
    assert folder.onnx is not None
    model, name = read_model(folder.onnx, signature.outputs[0].name if signature.outputs else "")
    if in_floats or _has_whole_weights_alone(model):
        _compute_in_floats(model)
    return _save(model, name, folder.onnx, signature, path)


def convert_graph(folder: ModelFolder, signature: Signature, path: Path) -> Signature:
    """Convert a network that OpenVINO's front ends read, as :func:`convert_file` converts an ONNX file."""
    assert folder.graph is not None
    model = load_graph(folder.graph)
    names = [name_of(output, number) for number, output in enumerate(model.outputs)]
    wished = signature.outputs[0].name if signature.outputs else ""
    name = wished if wished in names else names[0]
    part = cut(model, name)
    _compute_in_floats(part)
    return _save(part, name, folder.graph, signature, path)


def has_quantized_maps(file: Path) -> bool:
    """Return whether an ONNX file quantizes maps, not only weights."""
    return any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in load_onnx(file).graph.node)


def _has_whole_weights_alone(model: Any) -> bool:
    """Return whether a model has weights of 8 bits and maps of floats, for which OpenVINO rounds the maps, too."""
    kinds = import_openvino().Type
    nodes = [(node.get_type_name(), node.output(0).get_element_type()) for node in model.get_ops() if node.outputs()]
    whole = any(name == "Constant" and kind in (kinds.i8, kinds.u8) for name, kind in nodes)
    return whole and all(name != "FakeQuantize" for name, _kind in nodes)


def _compute_in_floats(model: Any) -> None:
    """Rewrite a quantized model to the same arithmetic in 32-bit floats, with weights in floats.

    OpenVINO 2026.4 computes ``FakeQuantize`` in 8 bits, in which sums overflow on processors without VNNI: a quantized
    network of Teachable Machine gave another class for one picture in ten. Weights that are converted as the network
    is compiled are computed wrongly by some of its streams, now and then.
    """
    openvino = import_openvino()
    ops = openvino.opset13
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            node.output(0).replace(_quantized(ops, node))
        elif node.get_type_name() == "Convert" and node.get_element_type() == openvino.Type.f32:
            source = node.input_value(0).get_node()
            if source.get_type_name() == "Constant":
                node.output(0).replace(ops.constant(source.data.astype(np.float32)).output(0))
    passes = import_module("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)


def _quantized(ops: Any, node: Any) -> Any:
    """Return the output of arithmetic that computes what a ``FakeQuantize`` does."""
    values, least, most, low, high = node.input_values()
    steps = np.float32(node.get_attributes()["levels"] - 1)
    within = ops.minimum(ops.maximum(values, least), most)
    fraction = ops.divide(ops.subtract(within, least), ops.subtract(most, least))
    step = ops.round(ops.multiply(fraction, steps), "half_to_even")
    return ops.add(ops.multiply(ops.divide(step, steps), ops.subtract(high, low)), low).output(0)


def _save(model: Any, name: str, file: Path, signature: Signature, path: Path) -> Signature:
    """Write an OpenVINO model with one output for one row at a time."""
    openvino = import_openvino()
    _set_input(openvino, model, signature.inputs[0].shape[1:], file)
    if model.output(0).partial_shape.is_dynamic:
        shape = model.output(0).partial_shape
        raise ModelFormatError(f"{file}: the shape of the output {name} differs from picture to picture: {shape}")
    openvino.save_model(model, path / MODEL, compress_to_fp16=False)
    sizes = tuple(model.output(0).shape)
    row = sizes[1:] if len(sizes) > 1 and sizes[0] == 1 else sizes or (1,)
    return replace(signature, outputs=(TensorSpec(name, (0, *row)),))


def read_model(file: Path, output: str = "") -> tuple[Any, str]:
    """Return OpenVINO's model of an ONNX file, and the name of its output.

    :param output: the output; the first output if none has that name.
    :raises ModelFormatError: as :func:`convert_file`.
    :raises Exception: of any kind, if OpenVINO cannot convert the file.
    """
    source, name = _source(file, output)
    return import_openvino().convert_model(source), name


def _source(file: Path, output: str) -> tuple[Any, str]:
    """Return OpenVINO's source, either the file or a stream of the part that is needed, and the output's name.

    OpenVINO does not support functions that a file defines itself, so they are inlined.
    """
    import onnx
    import onnx.inliner

    model = load_onnx(file)
    # the cache's key covers only these files
    if others := [item.name for item in weight_files(file, model) if not item.name.startswith(file.name)]:
        raise ModelFormatError(f"{file} keeps weights in {others[0]!r}; put all into one file with onnx.save")
    outputs = [value.name for value in model.graph.output]
    if not outputs:
        raise ModelFormatError(f"{file} has no output")
    name = output if output in outputs else outputs[0]
    if len(outputs) > 1:
        prune(model, name)
    fed = [value.name for value in fed_inputs(model.graph)]
    if len(fed) != 1:
        raise ModelFormatError(f"{file} has {len(fed)} inputs ({', '.join(fed[:4])}); an image classifier has one")
    rewritten = len(outputs) > 1 or len(model.functions) > 0
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)  # functions of another opset stay, and are rejected by name
    quantized = any(node.op_type.startswith(QUANTIZED) for node in model.graph.node)
    if not _part(model.graph) and not rewritten and not quantized:
        return str(file), name
    onnx.load_external_data_for_model(model, str(file.parent))
    if quantized:
        rewrite_quantized(model.graph)
    return io.BytesIO(model.SerializeToString()), name


def _part(graph: Any) -> bool:
    """Insert a neutral operation between operations that OpenVINO 2026.4 would otherwise fuse wrongly.

    A ``Pad`` is lost when fused with an operation that has padding of its own (``SAME_UPPER``, ``SAME_LOWER``), also
    through operations that are folded into weights; a transposed convolution needs the ``Pad`` before its strides. The
    strides of a 1 x 1 convolution are moved to the operation before it, past that operation's padding, and for a
    ``Split`` to only one of its outputs.

    :returns: whether there were such operations.
    """
    ops = {node.op_type for node in graph.node}
    sizes = {array.name: list(array.dims)[2:] for array in graph.initializer}
    joined = [node for node in graph.node if "Pad" in ops and node.input and _pads(node)]
    strided = [node for node in graph.node if _strides(node, sizes) and ("Split" in ops or any(_list(node, "pads")))]
    for node in joined:
        _put_before(graph, node, "Clip")
    for node in strided:
        _put_before(graph, node, "MaxPool", kernel_shape=[1] * len(_list(node, "strides")))
    return bool(joined or strided)


def _put_before(graph: Any, node: Any, op: str, **attributes: Any) -> None:
    import onnx

    name = f"{node.input[0]} for {node.output[0]}"
    graph.node.append(onnx.helper.make_node(op, [node.input[0]], [name], **attributes))
    node.input[0] = name


def _list(node: Any, name: str) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == name), [])


def _strides(node: Any, sizes: dict[str, list[int]]) -> bool:
    """Return whether a node is a 1 x 1 convolution with strides."""
    kernel = _list(node, "kernel_shape") or next((sizes[name] for name in node.input[1:2] if name in sizes), [])
    return node.op_type == "Conv" and max(kernel, default=0) == 1 and max(_list(node, "strides"), default=1) > 1


def _pads(node: Any) -> bool:
    """Return whether a node would be fused wrongly with a Pad."""
    same = any(item.name == "auto_pad" and item.s.startswith(b"SAME") for item in node.attribute)
    return node.op_type == "ConvTranspose" or (same and node.op_type in ("Conv", "AveragePool", "MaxPool"))


def _set_input(openvino: Any, model: Any, sizes: tuple[int, ...], file: Path) -> None:
    """Set a model's input to one row of 32-bit floats of these sizes."""
    own = list(model.input(0).partial_shape)[1:]
    if len(own) == len(sizes):
        sizes = tuple(
            size or (item.get_length() if item.is_static else 0) for size, item in zip(sizes, own, strict=True)
        )
    if 0 in sizes:
        raise ModelFormatError(f"{file} leaves the size of its input open: {sizes}; write it into a signature.json")
    model.reshape({model.input(0): [1, *sizes]})
    kind = model.input(0).element_type
    if kind == openvino.Type.f32:
        return
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.f32)
    if kind.is_integral():
        ops, limits = openvino.opset13, np.iinfo(kind.to_dtype())
        steps.input().preprocess().custom(
            lambda values: ops.clamp(ops.round(values, "half_to_even"), float(limits.min), float(limits.max)).output(0)
        )
    steps.build()
