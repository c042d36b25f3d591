"""The result of inferring a model's signature, and the rules common to all kinds of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from app.errors import ModelFormatError
from app.formats.pixels import RAW, TORCH
from app.types import Activation, FloatArray, Postprocess, Preprocess, Signature, TensorSpec

USUAL_SIDE = 224
"""Height and width of a picture in pixels if the file leaves them open."""
LARGE = 200
"""The least side of ImageNet's pictures."""
SMALL = 32
"""The largest side of CIFAR's pictures."""
STATED = "signature.json states it"
BY_CALLER = "you state it"
BY_FILE = "the file states it"
BY_METADATA = "the file's metadata state it"
"""Reasons for parts that need not be inferred."""
BY_LABELS = "listed in "
"""Beginning of the reason for labels from a file."""
MEASURED = "pictures were tried"
"""Beginning of the reason for a preprocessing that was found by pictures."""
WHOLE_PIXELS = RAW, "raw 0-255: the input takes whole numbers"
SIGNED_PIXELS = replace(RAW, mean=(128.0,)), "-128 to 127: the input takes whole numbers with a sign"
"""Preprocessing of inputs of integers, and the reason."""
USUAL_SIZE = "the file leaves it open; the usual size"
USUAL_KERAS = "from 0 to 1, as most who train with Keras give them"
USUAL_GREY = "0-1, as grey pictures mostly are"
USUAL_TENSORFLOW = "0-1, as TensorFlow's networks take them: that is where most such files come from"
USUAL_PYTORCH = "as PyTorch's networks take them: that is where most such files come from"
USUAL_OPENVINO = "raw 0-255, as converted networks mostly take them"
USUAL_MXNET = "raw 0-255, as Multi Model Server gives them"
MMS_RULE = "as Multi Model Server gives it, since signature.json does not say"
IMAGENETS, NUMBERED = "ImageNet's, because there are 1,000", "numbered, because nothing names them"
"""Reasons for labels."""
ASSUMPTIONS = (
    *(USUAL_SIZE, USUAL_KERAS, USUAL_GREY, USUAL_TENSORFLOW, USUAL_PYTORCH, USUAL_OPENVINO, USUAL_MXNET),
    *(MMS_RULE, IMAGENETS, NUMBERED),
)
"""Endings of reasons that say what is usual: nothing in the files supports them."""
Confidence = Literal["stated", "derived", "assumed", "measured"]
"""How sure a part is: it is stated, follows from the network, is merely usual, or was found by pictures."""
SUM_TOLERANCE = 1e-3
"""The largest difference from 1 of the sum of a row of probabilities."""


@dataclass(frozen=True)
class Inference:
    """A model's signature, and the reason for each part of it that is not stated.

    ``labels`` are from the model's own file, None if it has none. ``settled`` is true if the activation is stated, so
    that :func:`settle` leaves it alone.
    """

    signature: Signature
    reasons: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    settled: bool = False


def inferred_reasons(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the reasons for inferred parts, without the parts that the user or the file states."""
    return {part: why for part, why in reasons.items() if why not in (STATED, BY_CALLER, BY_FILE, BY_METADATA)}


def confidence_of(reason: str) -> Confidence:
    """Return how sure a part is with this reason."""
    if reason in (STATED, BY_CALLER, BY_FILE, BY_METADATA) or reason.startswith(BY_LABELS):
        return "stated"
    if reason.startswith(MEASURED):
        return "measured"
    return "assumed" if reason.endswith(ASSUMPTIONS) else "derived"


def settle(inference: Inference, rows: FloatArray) -> Inference:
    """Correct the activation of an inferred signature by the network's real output.

    Rows that sum to 1 are probabilities already, whatever the graph ends in; values outside 0-1 are not.

    :param rows: the network's output for several pictures, (N, classes), without any activation.
    """
    postprocess = inference.signature.postprocess
    if inference.settled or not np.isfinite(rows).all():
        return inference
    within = bool((rows >= -SUM_TOLERANCE).all() and (rows <= 1 + SUM_TOLERANCE).all())
    activation, reason = postprocess.activation, inference.reasons["output"]
    if rows.shape[1] == 1:
        if activation == "softmax" or not within:
            activation, reason = "sigmoid", "sigmoid: the network gives one logit"
    elif within and np.abs(rows.sum(axis=1) - 1).max() <= SUM_TOLERANCE:
        if activation != "none":
            activation, reason = "none", "probabilities: the rows that the network gives sum to 1"
    elif activation == "none" and not within:
        activation, reason = "softmax", "softmax: the network gives values beyond 0-1"
    if activation == postprocess.activation:
        return inference
    signature = replace(inference.signature, postprocess=replace(postprocess, activation=activation))
    return replace(inference, signature=signature, reasons={**inference.reasons, "output": reason})


def activation_of(is_distribution: bool, classes: int) -> Activation:
    """Return the activation that turns an output into probabilities.

    :param is_distribution: whether the graph ends in a distribution.
    :param classes: the number of values.
    """
    if is_distribution:
        return "none"
    return "sigmoid" if classes == 1 else "softmax"


def complete_shape(
    name: str, shape: Sequence[int], layout: str, size: tuple[int, int] | None
) -> tuple[tuple[int, ...], str]:
    """Return an input's shape with every size but the batch's, and the reason for its height and width.

    :param shape: the shape with the batch axis; 0 stands for any size.
    :param layout: the axes of ``shape``, such as ``NCHW`` or ``NHW``.
    :param size: height and width, if the user states them.
    :raises ModelFormatError: if the file fixes another size, or the channels are not those of a picture.
    """
    sides = dict(zip(layout, shape, strict=True))
    if size is not None:
        if any(sides[axis] not in (0, side) for axis, side in zip("HW", size, strict=True)):
            raise ModelFormatError(
                f"the input {name} is fixed at {sides['H']} x {sides['W']}, not {size[0]} x {size[1]}. Export it again "
                "with open sizes"
            )
        sides |= dict(zip("HW", size, strict=True))
    is_open = not sides["H"] or not sides["W"]
    known = {axis: side or (3 if axis == "C" else USUAL_SIDE) for axis, side in sides.items()} | {"N": 0}
    if known.get("C", 1) not in (1, 3):
        raise ModelFormatError(f"the input {name} {list(shape)} has {known['C']} channels; pictures have 1 or 3")
    reason = BY_CALLER if size is not None else USUAL_SIZE if is_open else BY_FILE
    return tuple(known[axis] for axis in layout), reason


def no_picture(name: str, shape: Sequence[int | None]) -> ModelFormatError:
    """Return the error for an input that is not a picture."""
    return ModelFormatError(
        f"the input {name} has the shape {list(shape)}; a picture has four axes, or three if it is grey"
    )


def check_row(path: Path, output: str, shape: Sequence[int]) -> None:
    """Check that an output is one row with a value for each class.

    :param shape: the output's shape with the batch axis, which does not count.
    :raises ModelFormatError: if more than one of its axes is longer than 1.
    """
    if sum(axis != 1 for axis in shape[1:]) > 1:
        raise ModelFormatError(
            f"{path} is not a classifier: its output {output} has the shape {list(shape[1:])} for one picture, not one "
            "row of classes"
        )


Kind = Literal["distribution", "logits", "features", "unknown"]


@dataclass(frozen=True)
class Output:
    """An output of a network.

    ``shape`` has the batch axis; 0 stands for any size, and no axes for an unknown shape. ``kind`` is what the graph
    ends in: a distribution, a layer with weights (``logits``), a normalisation or pooled maps (``features``).
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    is_float: bool = True

    @property
    def is_row(self) -> bool:
        """Return whether it may be one value for each class: one axis besides the batch, any others of size 1."""
        return self.is_float and len(self.shape) != 1 and sum(axis != 1 for axis in self.shape[1:]) <= 1


def choose_row(
    path: Path, outputs: Sequence[Output], name: str, labels: int | None, own: Sequence[str] | None
) -> tuple[Output, int]:
    """Return the output that is most probably a row of classes, and the number of its classes, 0 if that is open.

    :param name: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :param own: the labels in the file, if it has any.
    :raises ModelFormatError: if no output, or the named one, can be a row of classes, or it is a vector of features.
    """
    named = [output for output in outputs if output.name == name] or outputs
    rows = [output for output in named if output.is_row]
    if not rows:
        listed = "; ".join(
            f"{item.name} {list(item.shape)}{'' if item.is_float else ' of whole numbers'}" for item in named
        )
        raise ModelFormatError(f"{path} is not a classifier: no output is a row with a value for each class ({listed})")
    order = ("distribution", "logits", "unknown", "features")
    chosen = min(rows, key=lambda output: (labels not in output.shape[1:], order.index(output.kind)))
    if chosen.kind == "features" and (values := max(chosen.shape[1:], default=0)):
        refuse_features(path, chosen.name, values, labels if labels is not None else len(own or ()))
    is_open = 0 in chosen.shape[1:] or not chosen.shape
    return chosen, next((axis for axis in chosen.shape[1:] if axis > 1), 0 if is_open else 1)


def inference_of(
    tensor: TensorSpec,
    preprocess: Preprocess,
    output: TensorSpec,
    is_distribution: bool,
    others: Sequence[str],
    reasons: tuple[str, str],
    labels: tuple[str, ...] | None = None,
) -> Inference:
    """Return the inference of a network's signature.

    :param output: the output with the classes, (0, classes).
    :param is_distribution: whether the graph ends in a distribution.
    :param others: names of the other outputs.
    :param reasons: the reasons for the input and for the preprocessing.
    :param labels: the labels in the file, if it has any.
    """
    activation = activation_of(is_distribution, output.shape[-1])
    signature = Signature((tensor,), (output,), preprocess, Postprocess(activation))
    by_part = {"input": reasons[0], "pixels": reasons[1], "output": output_reason(activation, others, output.name)}
    return Inference(signature, by_part, labels)


def output_reason(activation: Activation, others: Sequence[str], chosen: str) -> str:
    """Return the reason for an activation, and for the chosen output if there are others."""
    reason = {
        "none": "probabilities: the graph ends in them",
        "softmax": "softmax: the graph ends in logits",
        "sigmoid": "sigmoid: the graph ends in one logit",
    }[activation]
    if not others:
        return reason
    return f"{reason}; of several outputs {chosen} is taken: --output names another of {', '.join(others)}"


def refuse_features(path: Path, output: str, classes: int, labels: int | None) -> None:
    """Refuse a row that is a vector of features, unless labels for all of its values show that they are classes.

    :raises ModelFormatError: if the row is refused.
    """
    if labels != classes:
        raise ModelFormatError(
            f"{path} is not a classifier: its output {output} is a vector of {classes:,} features, as an embedding "
            f"gives it. If its values are classes, name each of them in a file of labels"
        )


def with_imagenet_crop(preprocess: Preprocess, shape: tuple[int, ...]) -> Preprocess:
    """Return a preprocessing with the crop of PyTorch and Gluon for ImageNet: 224 pixels of a shorter side of 256."""
    if preprocess.mean != TORCH.mean or len(shape) != 4 or min(shape[2:]) < LARGE:
        return preprocess
    return replace(preprocess, resize="crop", shorter_side=round(min(shape[2:]) * 256 / 224))


def as_grey(preprocess: Preprocess) -> Preprocess:
    """Return a preprocessing with the same range of pixels for grey pictures."""
    if len(preprocess.mean) == 1:
        return replace(preprocess, color="grey")
    return replace(preprocess, color="grey", mean=(0.0,), std=(1.0,))
