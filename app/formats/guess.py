"""What loose files say of their model, and what has to be assumed because they do not.

No format of those years says how pictures are to be given to a network. What is assumed follows from who wrote such
files: every guess comes with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.graph import Graph, read_graph
from app.formats.keras_h5 import H5Model, read_h5
from app.formats.loose import Loose
from app.formats.onnx_graph import describe_onnx, read_onnx
from app.formats.signature import read_signature
from app.formats.symbol import describe_checkpoint
from app.types import Layout, Postprocess, Preprocess, Signature, TensorSpec

CAREFUL = Preprocess(interpolation="bilinear", antialias=True)
"""Resampled as training pipelines do."""
TORCH = replace(CAREFUL, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR = replace(CAREFUL, scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
UNIT = replace(CAREFUL, scale=1 / 255)
AROUND_ZERO = replace(CAREFUL, scale=1 / 127.5, mean=(1.0,))
CAFFE = replace(CAREFUL, color="bgr", mean=(103.939, 116.779, 123.68))

LARGE = 200
"""Smaller pictures are not ImageNet's."""

KERAS_APPLICATIONS = (
    (("vgg16", "vgg19", "resnet50", "resnet101", "resnet152"), CAFFE, "BGR less the mean"),
    (("mobilenet", "inception", "xception", "nasnet"), AROUND_ZERO, "from -1 to 1"),
    (("densenet",), TORCH, "normalised as PyTorch's"),
    (("resnet50v2", "resnet101v2", "resnet152v2"), AROUND_ZERO, "from -1 to 1"),
)
"""How ``keras.applications`` gives pictures to its networks, by how their names begin; the last that fits counts."""


@dataclass(frozen=True)
class Guess:
    """A signature, and why it says what it says: about the input, the pixels and the output."""

    signature: Signature
    input_reason: str
    pixels_reason: str
    output_reason: str
    labels: tuple[str, ...] | None = None


def guess(loose: Loose, size: tuple[int, int] | None = None) -> Guess:
    """Describe a model of loose files.

    :param size: height and width of the input, where somebody knows better.
    :raises ModelFormatError: where a file cannot be read, or contradicts another.
    """
    if loose.signature is not None:
        said = f"{loose.signature.name} says so"
        return Guess(read_signature(loose.signature), said, said, said)
    if loose.symbol is not None and loose.params is not None:
        return _of_checkpoint(loose.symbol, loose.params, size)
    if loose.onnx is not None:
        return _of_onnx(loose.onnx, size)
    assert loose.h5 is not None
    model = read_h5(loose.h5, loose.architecture)
    try:
        return _of_h5(model, loose.h5)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:  # JSON of any shape
        reason = f"{type(error).__name__}: {error}"
        raise ModelFormatError(f"{loose.h5} does not describe its layers as Keras does: {reason}") from None


def _of_checkpoint(symbol: Path, params: Path, size: tuple[int, int] | None) -> Guess:
    signature = describe_checkpoint(symbol, params, size)
    graph = read_graph(symbol)
    preprocess, reason = _pixels_of(graph, signature)
    outcome = "the graph ends in one" if signature.postprocess.activation == "none" else "the graph ends in logits"
    return Guess(
        replace(signature, preprocess=_cropped(preprocess, signature.inputs[0].shape)),
        "you say so" if size else "it fits the weights",
        reason,
        f"softmax: {outcome}" if signature.postprocess.activation == "softmax" else f"probabilities: {outcome}",
    )


def _pixels_of(graph: Graph, signature: Signature) -> tuple[Preprocess, str]:
    """Gluon exports the names that its blocks gave their operations, which end in ``fwd``; its networks were trained on
    normalised pictures. A network that normalises its input itself takes raw pixels."""
    shape = signature.inputs[0].shape
    first = next((node for node in graph.nodes if node.op != "null"), None)
    if shape[1] != 3:
        return signature.preprocess, "raw 0-255, as Multi Model Server gives them"
    if first is not None and first.op in ("BatchNorm", "_minus_scalar", "_mul_scalar", "broadcast_sub"):
        return signature.preprocess, f"raw 0-255: the network begins with {first.op} {first.name}"
    if any(node.name.endswith("_fwd") for node in graph.nodes if node.op in ("Convolution", "FullyConnected")):
        normal = CIFAR if shape[2] <= 32 else TORCH
        return normal, "normalised as Gluon's model zoo is: the graph was exported by Gluon"
    return signature.preprocess, "raw 0-255, as Multi Model Server gives them"


def _cropped(preprocess: Preprocess, shape: tuple[int, ...]) -> Preprocess:
    """Networks of ImageNet by PyTorch and Gluon look at the centre of a picture whose shorter side is 256 for 224."""
    if preprocess.mean != TORCH.mean or min(shape[2:]) < LARGE:
        return preprocess
    return replace(preprocess, resize="crop", shorter_side=round(min(shape[2:]) * 256 / 224))


def _of_onnx(path: Path, size: tuple[int, int] | None) -> Guess:
    facts = read_onnx(path)
    signature = describe_onnx(facts, size)
    if facts.signature is not None:
        said = "the file's metadata say so"
        return Guess(signature, said, said, said, facts.labels)
    open_sides = len(facts.input_shape) == 4 and 0 in facts.input_shape[1:]
    signature = replace(signature, preprocess=_cropped(signature.preprocess, signature.inputs[0].shape))
    writer = "PyTorch's" if signature.preprocess.layout == "NCHW" else "TensorFlow's"
    return Guess(
        signature,
        "you say so" if size else "the file leaves it open; the usual one" if open_sides else "the file says so",
        f"as {writer} networks take them: that is where most such files come from",
        "probabilities: the graph ends in them" if facts.is_distribution else "softmax: the graph ends in logits",
        facts.labels,
    )


def _of_h5(model: H5Model, path: Path) -> Guess:
    layers = list(_layers(model.config))
    shape = next((options["batch_input_shape"] for _kind, options in layers if options.get("batch_input_shape")), None)
    if shape is None or len(shape) != 4:
        raise ModelFormatError(f"{path} does not say that its input is a picture: its shape is {shape}")
    sizes = tuple(int(size or 0) for size in shape)
    first = any(options.get("data_format") == "channels_first" for _kind, options in layers)
    layout: Layout = "NCHW" if first or (sizes[1] in (1, 3) and sizes[3] not in (1, 3)) else "NHWC"
    grey = sizes[layout.index("C")] == 1
    preprocess, reason = _pixels_of_h5(model, layers)
    if grey:
        preprocess = replace(preprocess, color="grey", mean=(0.0,), std=(1.0,))
    kind, last = layers[-1]
    activation = str(last.get("activation", "")) if kind != "Softmax" else "softmax"
    is_distribution = activation in ("softmax", "sigmoid")
    units = next((int(options["units"]) for _kind, options in reversed(layers) if "units" in options), 0)
    name, options = layers[0]
    signature = Signature(
        (TensorSpec(_input_name(name, options), sizes),),
        (TensorSpec(str(last.get("name")), (0, units)),) if units else (),
        replace(preprocess, layout=layout),
        Postprocess("none" if is_distribution else "softmax"),
    )
    return Guess(
        signature,
        "the file says so",
        reason,
        "probabilities: the last layer is one of them" if is_distribution else "softmax: the last layer gives logits",
    )


def _pixels_of_h5(model: H5Model, layers: list[tuple[str, dict[str, Any]]]) -> tuple[Preprocess, str]:
    own = next((kind for kind, _options in layers if kind in ("Rescaling", "Normalization")), None)
    if own is not None:
        return CAREFUL, f"raw 0-255: the network brings its own {own}"
    name = str(model.config.get("config", {}).get("name", "")) if isinstance(model.config.get("config"), dict) else ""
    found = [entry for entry in KERAS_APPLICATIONS if name.lower().startswith(entry[0])]
    if found:
        return found[-1][1], f"{found[-1][2]}, as keras.applications gives them to its {name}"
    return UNIT, "from 0 to 1, as most who train with Keras give them"


def _input_name(kind: str, options: dict[str, Any]) -> str:
    """What Keras calls the input: its layer, which it makes itself where a network begins without one."""
    return str(options["name"]) if kind == "InputLayer" else f"{options['name']}_input"


def _layers(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The layers in their order, those of models in it too."""
    if isinstance(node, list):
        for one in node:
            yield from _layers(one)
        return
    options = node.get("config")
    if isinstance(options, dict) and isinstance(options.get("layers"), list):
        yield from _layers(options["layers"])
    elif isinstance(options, list):
        yield from _layers(options)
    elif isinstance(options, dict):
        yield str(node.get("class_name")), options
