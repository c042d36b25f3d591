"""Signature of an ONNX file, inferred from its graph and metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.inference import (
    BY_METADATA,
    SIGNED_PIXELS,
    SMALL,
    USUAL_GREY,
    USUAL_PYTORCH,
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
    with_imagenet_crop,
)
from app.formats.onnx_graph import SIGNED_BYTES, OnnxFacts, OnnxOutput, read_onnx
from app.formats.pixels import RAW, SIGNED, TORCH, UNIT, pixels_of
from app.formats.signature import is_grey, layout_of
from app.types import Postprocess, Preprocess, Signature, TensorSpec

WHOLE_NUMBERS = (2, 4, 5, 6, 7, 12, 13)
"""``TensorProto.DataType`` of all integers except int8."""
ONNX_COLOURS = {"Gray8": "grey", "Rgb8": "rgb", "Srgb8": "rgb", "Bgr8": "bgr"}
ONNX_RANGES = {"NominalRange_0_255": RAW, "Normalized_0_1": UNIT, "Normalized_1_1": SIGNED}


def infer_onnx(path: Path, size: tuple[int, int] | None, output: str, labels: int | None) -> Inference:
    """Infer the signature of an ONNX file; use the file's own if Dimple exported it.

    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if the file cannot be read, or is not an image classifier.
    """
    facts = read_onnx(path)
    if facts.signature is not None and not size and not output:
        by_file = dict.fromkeys(("input", "pixels", "output"), BY_METADATA)
        return Inference(facts.signature, by_file, facts.labels, settled=True)
    chosen, classes = _output_of(path, facts, output, labels)
    shape, input_reason = _shape_of(path, facts, size)
    preprocess, pixels_reason = _pixels_of_onnx(facts, shape)
    activation = activation_of(chosen.kind == "distribution", classes)
    others = [item.name for item in facts.outputs if item is not chosen]
    signature = Signature(
        (TensorSpec(facts.input_name, shape),),
        (TensorSpec(chosen.name, (0, classes)),),
        with_imagenet_crop(replace(preprocess, layout=layout_of(shape)), shape),
        Postprocess(activation),
    )
    reasons = {
        "input": input_reason,
        "pixels": pixels_reason,
        "output": output_reason(activation, others, chosen.name),
    }
    return Inference(signature, reasons, facts.labels)


def _output_of(path: Path, facts: OnnxFacts, name: str, labels: int | None) -> tuple[OnnxOutput, int]:
    """Return the output that is a row of classes, and the number of its classes.

    :raises ModelFormatError: if no output, or the named one, can be a row of classes.
    """
    named = [output for output in facts.outputs if output.name == name] or facts.outputs
    listed = "; ".join(
        f"{output.name} {list(output.shape)}{'' if output.is_float else ' of whole numbers'}" for output in named
    )
    rows = [output for output in named if output.is_float and is_row(output.shape)]
    return choose_row(path, rows, listed, labels, facts.labels)


def _shape_of(path: Path, facts: OnnxFacts, size: tuple[int, int] | None) -> tuple[tuple[int, ...], str]:
    """Return the input's shape with every size but the batch's, and the reason for it.

    :raises ModelFormatError: if the input is not a picture, or fixed at another size than ``size``.
    """
    shape = facts.input_shape
    try:
        if len(shape) not in (3, 4):
            raise no_picture(facts.input_name, shape)
        return complete_shape(facts.input_name, shape, layout_of(shape) if len(shape) == 4 else "NHW", size)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None


def _pixels_of_onnx(facts: OnnxFacts, shape: tuple[int, ...]) -> tuple[Preprocess, str]:
    """Return the preprocessing for an ONNX file's network, and the reason for it.

    Without information in the file, channels first are assumed to be PyTorch's, with the normalisation of torchvision's
    models; channels last TensorFlow's, with pixels of 0-1.
    """
    grey = is_grey(shape)
    preprocess, reason = _colour_pixels_of_onnx(facts, shape, grey)
    return (as_grey(preprocess), reason) if grey else (preprocess, reason)


def _colour_pixels_of_onnx(facts: OnnxFacts, shape: tuple[int, ...], grey: bool) -> tuple[Preprocess, str]:
    side = min(shape[1:3]) if layout_of(shape) == "NHWC" else shape[-1]
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
    if grey:
        return UNIT, USUAL_GREY
    if facts.producer.lower() in ("tf2onnx", "keras2onnx", "onnxmltools") or layout_of(shape) == "NHWC":
        return UNIT, USUAL_TENSORFLOW
    return TORCH, USUAL_PYTORCH
