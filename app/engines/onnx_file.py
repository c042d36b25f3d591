"""The way of ONNX files to OpenVINO."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.cache import MODEL
from app.engines.openvino_runtime import import_openvino
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.onnx_graph import load_onnx, weight_files
from app.formats.onnx_prune import prune
from app.types import Signature, TensorSpec


def convert_file(folder: ModelFolder, signature: Signature, path: Path) -> Signature:
    """Convert a folder's ONNX file to OpenVINO's format, for one row at a time.

    Of several outputs the one is taken that the signature names, or the first if it names none of them. Operations that
    only the others need may be of any kind.

    :param signature: gives the input's shape; 0 leaves a size as it is in the file.
    :param path: the folder in which the model is written.
    :returns: the signature with the output's name in the file, and its shape.
    :raises ModelFormatError: if the file cannot be read, keeps weights anywhere but beside it, or has not one input and
        an output of fixed shape.
    :raises Exception: of any kind, if OpenVINO cannot convert it.
    """
    assert folder.onnx is not None
    openvino = import_openvino()
    source, name = _source(folder.onnx, signature)
    model = openvino.convert_model(source)
    _set_input(openvino, model, signature.inputs[0].shape[1:], folder.onnx)
    if model.output(0).partial_shape.is_dynamic:
        shape = model.output(0).partial_shape
        raise ModelFormatError(
            f"{folder.onnx}: the shape of the output {name} differs from picture to picture: {shape}"
        )
    openvino.save_model(model, path / MODEL, compress_to_fp16=False)
    sizes = tuple(model.output(0).shape)
    row = sizes[1:] if len(sizes) > 1 and sizes[0] == 1 else sizes or (1,)
    return replace(signature, outputs=(TensorSpec(name, (0, *row)),))


def _source(file: Path, signature: Signature) -> tuple[Any, str]:
    """Return what OpenVINO is to read, the file itself or a stream of the part that counts, and the output's name.

    OpenVINO knows no functions that a file defines itself, so these are inlined.
    """
    import onnx
    import onnx.inliner

    model = load_onnx(file)
    # the cache's key covers these files alone
    if others := [one.name for one in weight_files(file, model) if not one.name.startswith(file.name)]:
        raise ModelFormatError(f"{file} keeps weights in {others[0]!r}; put all into one file with onnx.save")
    outputs = [value.name for value in model.graph.output]
    if not outputs:
        raise ModelFormatError(f"{file} has no output")
    wished = signature.outputs[0].name if signature.outputs else ""
    name = wished if wished in outputs else outputs[0]
    if len(outputs) > 1:
        prune(model, name)
    learned = {array.name for array in model.graph.initializer}
    fed = [value.name for value in model.graph.input if value.name not in learned]
    if len(fed) != 1:
        raise ModelFormatError(f"{file} has {len(fed)} inputs ({', '.join(fed[:4])}); an image classifier has one")
    rewritten = len(outputs) > 1 or len(model.functions) > 0
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)  # those of another opset stay, and are refused by name
    if not _part_pads(model.graph) and not rewritten:
        return str(file), name
    onnx.load_external_data_for_model(model, str(file.parent))
    return io.BytesIO(model.SerializeToString()), name


def _part_pads(graph: Any) -> bool:
    """Put a ``Clip`` that changes nothing before what OpenVINO 2026.4 would join with the ``Pad`` before it, wrongly.

    Joined with padding of its own (``SAME_UPPER``, ``SAME_LOWER``) the Pad's is lost; a transposed convolution with
    steps needs it before these.

    :returns: whether there was any.
    """
    import onnx

    producers = {name: node for node in graph.node for name in node.output}
    joined = [node for node in graph.node if _pads(node) and _is_pad(producers.get(node.input[0]), producers)]
    for node in joined:
        apart = f"{node.input[0]} for {node.output[0]}"
        graph.node.append(onnx.helper.make_node("Clip", [node.input[0]], [apart]))
        node.input[0] = apart
    return bool(joined)


def _pads(node: Any) -> bool:
    same = any(one.name == "auto_pad" and one.s.startswith(b"SAME") for one in node.attribute)
    if not node.input:
        return False
    return node.op_type == "ConvTranspose" or (same and node.op_type in ("Conv", "AveragePool", "MaxPool"))


def _is_pad(node: Any, producers: dict[str, Any]) -> bool:
    """Whether a node is a ``Pad``, or passes on what one gives."""
    for _ in producers:  # each at most once: a broken graph may go round in circles
        if node is None or node.op_type not in ("Identity", "Dropout"):
            break
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "Pad"


def _set_input(openvino: Any, model: Any, sizes: tuple[int, ...], file: Path) -> None:
    """Let a model take one row of 32-bit floats of these sizes."""
    own = list(model.input(0).partial_shape)[1:]
    if len(own) == len(sizes):
        sizes = tuple(size or (one.get_length() if one.is_static else 0) for size, one in zip(sizes, own, strict=True))
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
