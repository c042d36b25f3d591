"""The converted network of ``models/imagenet``, built from its graph without MXNet.

MXNet's own outputs are part of the repository (``imagenet_answers.npz``, made by ``python -m app.zoo.imagenet``
on a complete installation), so the network is proven where it is built.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.cache import ANSWERS, MODEL
from app.engines.converted import compare_stored, make_proof
from app.engines.proof import Program, write_proof
from app.formats.folder import CONVERTED
from app.types import Signature
from app.utils.openvino_runtime import import_openvino

Arrays = Mapping[str, NDArray[np.float32]]
KNOWN = Path(__file__).with_name("imagenet_answers.npz")
"""MXNet's outputs for the samples (``answers``, float32 (14, 1000)), and its version (``mxnet``)."""


def write_converted(folder: Path, source: dict[str, str], signature: Signature, symbol: str, params: Arrays) -> None:
    """Write the folder ``converted`` and the proof of a model folder.

    :param source: hashes of the checkpoint's files, by name.
    :param symbol: the checkpoint's graph, as :func:`app.zoo.imagenet.build` returns it, like ``params``.
    """
    made = folder / CONVERTED
    made.mkdir()
    model = to_openvino(json.loads(symbol), params, signature)
    import_openvino().save_model(model, made / MODEL, compress_to_fp16=False)
    with np.load(KNOWN, allow_pickle=False) as known:
        np.save(made / ANSWERS, known["answers"])
        numbers, reference = range(len(known["answers"])), Program("mxnet", str(known["mxnet"]))
    write_proof(make_proof(folder, source, signature, *compare_stored(folder, signature, reference, numbers)), folder)


def to_openvino(symbol: dict[str, Any], params: Arrays, signature: Signature) -> Any:
    """Convert a graph of EfficientNet-Lite's operations to an OpenVINO model for one picture at a time."""
    openvino = import_openvino()
    arrays = {name.partition(":")[2]: array for name, array in params.items()}
    _fold_normalizations(symbol, arrays)
    shape = (1, *signature.inputs[0].shape[1:])
    picture = openvino.opset13.parameter(shape, np.float32, name=signature.inputs[0].name)
    made: list[Any] = []
    for node in symbol["nodes"]:
        inputs = [made[number] for number, _, _ in node["inputs"]]
        if node["op"] == "null":
            made.append(arrays.get(node["name"], picture))
        else:
            attrs = {name: _value(text) for name, text in node.get("attrs", {}).items()}
            made.append(_OPERATIONS[node["op"]](openvino.opset13, inputs, attrs))
    return openvino.Model([made[-1]], [picture], "imagenet")


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def _convolution(ops: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    data, weight = inputs
    layout = (attrs["stride"], attrs["pad"], attrs["pad"], (1, 1))
    if attrs["num_group"] == 1:
        return ops.convolution(data, weight, *layout)
    filters, channels, height, width = weight.shape
    groups = attrs["num_group"]
    return ops.group_convolution(data, weight.reshape(groups, filters // groups, channels, height, width), *layout)


def _fold_normalizations(symbol: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> None:
    """Fold each normalization into the weights of the convolution before it; what it still adds becomes its beta."""
    for node in symbol["nodes"]:
        if node["op"] == "BatchNorm":
            name, weight = node["name"], f"{node['name'].removesuffix('_bn')}_weight"
            gamma, beta, mean, variance = (
                arrays[f"{name}_{part}"].astype(np.float64) for part in ("gamma", "beta", "moving_mean", "moving_var")
            )
            scale = gamma / np.sqrt(variance + float(node["attrs"]["eps"]))
            arrays[weight] = (arrays[weight] * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
            arrays[f"{name}_beta"] = (beta - mean * scale).astype(np.float32).reshape(1, -1, 1, 1)


def _pad(ops: Any, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    width = attrs["pad_width"]
    return ops.pad(inputs[0], width[0::2], width[1::2], "constant", np.float32(0))


_OPERATIONS: dict[str, Callable[[Any, list[Any], dict[str, Any]], Any]] = {
    "Convolution": _convolution,
    "BatchNorm": lambda ops, inputs, attrs: ops.add(inputs[0], ops.constant(inputs[2])),
    "Pad": _pad,
    "clip": lambda ops, inputs, attrs: ops.clamp(inputs[0], attrs["a_min"], attrs["a_max"]),
    "elemwise_add": lambda ops, inputs, attrs: ops.add(*inputs),
    "Pooling": lambda ops, inputs, attrs: ops.reduce_mean(inputs[0], np.array([2, 3]), keep_dims=True),
    "Flatten": lambda ops, inputs, attrs: ops.reshape(inputs[0], np.array([1, -1]), False),
    "FullyConnected": lambda ops, inputs, attrs: ops.add(
        ops.matmul(inputs[0], ops.constant(inputs[1]), False, True), ops.constant(inputs[2])
    ),
    "softmax": lambda ops, inputs, attrs: ops.softmax(inputs[0], 1),
}
