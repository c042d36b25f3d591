"""Signature of an MXNet checkpoint, inferred from its graph and parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.inference import (
    BY_CALLER,
    SMALL,
    USUAL_MXNET,
    Inference,
    as_grey,
    inference_of,
    refuse_features,
    with_imagenet_crop,
)
from app.formats.mxnet_describe import CheckpointFacts, describe_checkpoint
from app.formats.mxnet_graph import Graph, read_graph
from app.formats.mxnet_params import bare_name, read_params
from app.formats.pixels import CIFAR, RAW, TORCH, UNIT, mxnet_normalisation, pixels_of
from app.types import Preprocess, TensorSpec


def infer_checkpoint(
    symbol: Path, params: Path, size: tuple[int, int] | None, output: str, labels: int | None
) -> Inference:
    """Infer the signature of a checkpoint.

    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if a file cannot be read, or the checkpoint is not an image classifier.
    """
    graph, listed = read_graph(symbol), read_params(params)
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
