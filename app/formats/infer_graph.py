"""Signature of a network that OpenVINO's front ends read, inferred from its graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.inference import (
    SIGNED_PIXELS,
    SMALL,
    USUAL_GREY,
    USUAL_OPENVINO,
    USUAL_TENSORFLOW,
    WHOLE_PIXELS,
    Inference,
    activation_of,
    as_grey,
    choose_row,
    complete_shape,
    is_row,
    no_picture,
    output_reason,
)
from app.formats.openvino_graph import GraphFacts, GraphOutput, read_graph
from app.formats.pixels import RAW, UNIT, pixels_of
from app.formats.signature import is_grey, layout_of
from app.types import Postprocess, Preprocess, Signature, TensorSpec


def infer_graph(path: Path, size: tuple[int, int] | None, output: str, labels: int | None) -> Inference:
    """Infer the signature of a SavedModel, a frozen graph, a TFLite file or an OpenVINO model.

    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if it cannot be read, or is not an image classifier.
    """
    facts = read_graph(path)
    chosen, classes = _output_of(path, facts, output, labels)
    try:
        if len(facts.input_shape) not in (3, 4):
            raise no_picture(facts.input_name, facts.input_shape)
        layout = _layout(facts)
        shape, input_reason = complete_shape(facts.input_name, facts.input_shape, layout, size)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None
    preprocess, pixels_reason = _pixels_of(facts, shape, layout)
    activation = activation_of(chosen.kind == "distribution", classes)
    others = [item.name for item in facts.outputs if item is not chosen]
    signature = Signature(
        (TensorSpec(facts.input_name, shape),),
        (TensorSpec(chosen.name, (0, classes)),),
        replace(preprocess, layout=layout_of(shape) if len(shape) == 4 else "NCHW"),
        Postprocess(activation),
    )
    reasons = {
        "input": input_reason,
        "pixels": pixels_reason,
        "output": output_reason(activation, others, chosen.name),
    }
    return Inference(signature, reasons, facts.labels)


def _layout(facts: GraphFacts) -> str:
    """Return the axes of the input; where its sizes are open, TensorFlow's order."""
    shape = facts.input_shape
    if len(shape) == 3:
        return "NHW"
    if shape[3] not in (1, 3) and shape[1] not in (1, 3):
        return "NCHW" if facts.program == "OpenVINO" else "NHWC"
    return layout_of(shape)


def _output_of(path: Path, facts: GraphFacts, name: str, labels: int | None) -> tuple[GraphOutput, int]:
    """Return the output that is a row of classes, and the number of its classes."""
    named = [item for item in facts.outputs if item.name == name] or facts.outputs
    listed = "; ".join(f"{item.name} {list(item.shape)}" for item in named)
    return choose_row(path, [item for item in named if is_row(item.shape)], listed, labels, facts.labels)


def _pixels_of(facts: GraphFacts, shape: tuple[int, ...], layout: str) -> tuple[Preprocess, str]:
    grey = is_grey(shape)
    preprocess, reason = _range_of(facts, min(shape[layout.index("H")], shape[layout.index("W")]), grey)
    return (as_grey(preprocess), reason) if grey else (preprocess, reason)


def _range_of(facts: GraphFacts, side: int, grey: bool) -> tuple[Preprocess, str]:
    if facts.input_type == "int8":
        return SIGNED_PIXELS
    if not facts.input_type.startswith("float"):
        return WHOLE_PIXELS
    if (normal := pixels_of(facts.normalisation, side <= SMALL)) is not None:
        return normal
    if grey:
        return UNIT, USUAL_GREY
    return (RAW, USUAL_OPENVINO) if facts.program == "OpenVINO" else (UNIT, USUAL_TENSORFLOW)
