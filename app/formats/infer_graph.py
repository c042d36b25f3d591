"""Signature of an MXNet checkpoint, an ONNX file, or another network that OpenVINO reads, inferred from its graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.inference import (
    BY_CALLER,
    BY_METADATA,
    SIGNED_PIXELS,
    SMALL,
    USUAL_GREY,
    USUAL_MXNET,
    USUAL_OPENVINO,
    USUAL_PYTORCH,
    USUAL_TENSORFLOW,
    WHOLE_PIXELS,
    Inference,
    as_grey,
    choose_row,
    complete_shape,
    inference_of,
    no_picture,
    refuse_features,
    with_imagenet_crop,
)
from app.formats.mxnet_describe import CheckpointFacts, describe_checkpoint
from app.formats.mxnet_graph import Graph
from app.formats.mxnet_graph import read_graph as read_symbol
from app.formats.mxnet_params import bare_name, read_params
from app.formats.onnx_graph import SIGNED_BYTES, OnnxFacts, read_onnx
from app.formats.openvino_graph import GraphFacts, read_graph
from app.formats.pixels import (
    BY_TEACHABLE_MACHINE,
    CIFAR,
    RAW,
    SIGNED,
    TEACHABLE_MACHINE,
    TORCH,
    UNIT,
    mxnet_normalisation,
    pixels_of,
)
from app.formats.signature import is_grey, layout_of
from app.types import Layout, Preprocess, TensorSpec

WHOLE_NUMBERS = (2, 4, 5, 6, 7, 12, 13)
"""``TensorProto.DataType`` of all integers except int8."""
ONNX_COLOURS = {"Gray8": "grey", "Rgb8": "rgb", "Srgb8": "rgb", "Bgr8": "bgr"}
ONNX_RANGES = {"NominalRange_0_255": RAW, "Normalized_0_1": UNIT, "Normalized_1_1": SIGNED}


def infer_graph(path: Path, size: tuple[int, int] | None, output: str, labels: int | None) -> Inference:
    """Infer the signature of a SavedModel, a frozen graph, a TFLite file or an OpenVINO model; use the file's own
    if Dimple exported it.

    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if it cannot be read, or is not an image classifier.
    """
    facts = read_graph(path)
    shape, layout = facts.input_shape, layout_of(facts.input_shape)
    if len(shape) == 4 and shape[3] not in (1, 3) and shape[1] not in (1, 3):  # open sizes
        layout = "NCHW" if facts.program == "OpenVINO" else "NHWC"
    return _infer(path, facts, layout, (size, output, labels), partial(_pixels_of_graph, facts))


def infer_onnx(path: Path, size: tuple[int, int] | None, output: str, labels: int | None) -> Inference:
    """Infer the signature of an ONNX file, as :func:`infer_graph` does; use the file's own if Dimple exported it."""
    facts = read_onnx(path)
    layout = layout_of(facts.input_shape)
    return _infer(path, facts, layout, (size, output, labels), partial(_pixels_of_onnx, facts))


def _infer(
    path: Path,
    facts: GraphFacts | OnnxFacts,
    layout: Layout,
    stated: tuple[tuple[int, int] | None, str, int | None],
    pixels_of_input: Callable[[tuple[int, ...], int], tuple[Preprocess, str]],
) -> Inference:
    """Infer a signature; use the file's own if Dimple exported it.

    :param layout: the axes of an input of four.
    :param stated: size, output and number of labels, as in :func:`infer_graph`.
    :param pixels_of_input: returns the preprocessing, for RGB, for an input of a shape and a shorter side, and the
        reason for it.
    """
    size, output, labels = stated
    if facts.signature is not None and not size and not output:
        by_file = dict.fromkeys(("input", "pixels", "output"), BY_METADATA)
        return Inference(facts.signature, by_file, facts.labels, settled=True)
    chosen, classes = choose_row(path, facts.outputs, output, labels, facts.labels)
    axes = layout if len(facts.input_shape) == 4 else "NHW"
    try:
        if len(facts.input_shape) not in (3, 4):
            raise no_picture(facts.input_name, facts.input_shape)
        shape, input_reason = complete_shape(facts.input_name, facts.input_shape, axes, size)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None
    preprocess, pixels_reason = pixels_of_input(shape, min(shape[axes.index("H")], shape[axes.index("W")]))
    return inference_of(
        TensorSpec(facts.input_name, shape),
        replace(as_grey(preprocess) if is_grey(shape) else preprocess, layout=layout_of(shape)),
        TensorSpec(chosen.name, (0, classes)),
        chosen.kind == "distribution",
        [item.name for item in facts.outputs if item is not chosen],
        (input_reason, pixels_reason),
        facts.labels,
    )


def _pixels_of_graph(facts: GraphFacts, shape: tuple[int, ...], side: int) -> tuple[Preprocess, str]:
    preprocess, reason = _range_of_graph(facts, side, is_grey(shape))
    if facts.teachable_machine and not facts.input_type.startswith("float"):
        preprocess = replace(preprocess, resize=TEACHABLE_MACHINE.resize, interpolation=TEACHABLE_MACHINE.interpolation)
        reason = f"{reason}; the centre, as Teachable Machine gives it"
    return preprocess, reason


def _range_of_graph(facts: GraphFacts, side: int, grey: bool) -> tuple[Preprocess, str]:
    if facts.input_type == "int8":
        return SIGNED_PIXELS
    if not facts.input_type.startswith("float"):
        return WHOLE_PIXELS
    if (normal := pixels_of(facts.normalisation, side <= SMALL)) is not None:
        return normal
    if facts.teachable_machine:
        return TEACHABLE_MACHINE, BY_TEACHABLE_MACHINE
    if grey:
        return UNIT, USUAL_GREY
    return (RAW, USUAL_OPENVINO) if facts.program == "OpenVINO" else (UNIT, USUAL_TENSORFLOW)


def _pixels_of_onnx(facts: OnnxFacts, shape: tuple[int, ...], side: int) -> tuple[Preprocess, str]:
    """Return the preprocessing for an ONNX file's network, and the reason for it.

    Without information in the file, channels first are assumed to be PyTorch's, with the normalisation of torchvision's
    models; channels last TensorFlow's, with pixels of 0-1.
    """
    preprocess, reason = _range_of_onnx(facts, shape, side)
    return preprocess if is_grey(shape) else with_imagenet_crop(preprocess, shape), reason


def _range_of_onnx(facts: OnnxFacts, shape: tuple[int, ...], side: int) -> tuple[Preprocess, str]:
    if facts.element_type == SIGNED_BYTES:
        return SIGNED_PIXELS
    if facts.element_type in WHOLE_NUMBERS:
        return WHOLE_PIXELS
    nominal = ONNX_RANGES.get(facts.metadata.get("Image.NominalPixelRange", ""))
    colour = ONNX_COLOURS.get(facts.metadata.get("Image.BitmapPixelFormat", ""))
    if nominal is not None or colour is not None:
        preprocess = nominal or RAW
        return replace(preprocess, color=colour or "rgb"), BY_METADATA  # type: ignore[arg-type]
    normal = pixels_of(facts.normalisation, side <= SMALL)
    if normal is not None:
        return normal
    if facts.metadata.get("task") == "classify" and "names" in facts.metadata:
        return replace(UNIT, resize="crop"), "0-1, cropped at the centre, as Ultralytics trains its classifiers"
    if is_grey(shape):
        return UNIT, USUAL_GREY
    if facts.producer.lower() in ("tf2onnx", "keras2onnx", "onnxmltools") or layout_of(shape) == "NHWC":
        return UNIT, USUAL_TENSORFLOW
    return TORCH, USUAL_PYTORCH


def infer_checkpoint(
    symbol: Path, params: Path, size: tuple[int, int] | None, output: str, labels: int | None
) -> Inference:
    """Infer the signature of an MXNet checkpoint from its graph and parameters, as :func:`infer_graph` does."""
    graph, listed = read_symbol(symbol), read_params(params)
    arrays = {bare_name(name): array for name, array in listed.items()}
    shapes = {name: array.shape for name, array in listed.items()}
    try:
        facts = describe_checkpoint(graph, shapes, symbol, params, size, output)
    except ModelFormatError:
        if not output or any(node.name == output.removesuffix("_output") for node in graph.nodes):
            raise
        facts = describe_checkpoint(graph, shapes, symbol, params, size)  # MMS never checked the name of an output
    if facts.kind == "features":
        refuse_features(symbol, facts.output_name, facts.classes, labels)
    preprocess, reason = _pixels_of_checkpoint(graph, facts, arrays)
    return inference_of(
        TensorSpec(facts.input_name, facts.input_shape),
        with_imagenet_crop(preprocess, facts.input_shape),
        TensorSpec(facts.output_name, (0, facts.classes)),
        facts.kind == "distribution",
        facts.others,
        (BY_CALLER if size else "it fits the weights", reason),
    )


def _pixels_of_checkpoint(graph: Graph, facts: CheckpointFacts, arrays: Any) -> tuple[Preprocess, str]:
    """Return the preprocessing for a checkpoint, and the reason for it.

    Gluon exports its blocks' names of operations, which end in ``fwd``; its networks were trained on normalised
    pictures.
    """
    channels, side = facts.input_shape[1], facts.input_shape[2]
    if channels not in (1, 3):
        raise ModelFormatError(f"the input {facts.input_name} has {channels} channels; pictures have 1 or 3")
    colour = {"color": "grey"} if channels == 1 else {}
    normal = pixels_of(mxnet_normalisation(graph, facts.input_name, arrays), side <= SMALL)
    if normal is not None:
        preprocess, reason = normal
        return as_grey(preprocess) if colour else preprocess, reason
    if facts.input_name.startswith("/"):
        return replace(UNIT, **colour), "0-1: the input is named as Keras-MXNet names it"  # type: ignore[arg-type]
    layers = [node for node in graph.nodes if node.op in ("Convolution", "FullyConnected")]
    if channels == 3 and any(node.name.endswith("_fwd") for node in layers):
        return CIFAR if side <= SMALL else TORCH, "normalised as Gluon's model zoo is: the graph was exported by Gluon"
    return replace(RAW, **colour), USUAL_MXNET  # type: ignore[arg-type]
