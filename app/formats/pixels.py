"""Conventions for pixel values, and the input range that follows from a network's own first steps.

No model format of that time records how a picture becomes the network's input. A network that normalises its input
itself, however, contains the numbers: what it subtracts is near the mean of its input, and what it divides by is near
the deviation. The range of the input follows from these two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.formats.mxnet_graph import Graph, Node
from app.types import Preprocess

RAW = Preprocess(interpolation="bilinear", antialias=True)
"""Pixels of 0-255, resampled as training pipelines do."""
TORCH = replace(RAW, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR = replace(RAW, scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
UNIT = replace(RAW, scale=1 / 255)
SIGNED = replace(RAW, scale=1 / 127.5, mean=(1.0,))
CAFFE = replace(RAW, color="bgr", mean=(103.939, 116.779, 123.68))
TEACHABLE_MACHINE = replace(SIGNED, resize="fit", interpolation="lanczos")
BY_TEACHABLE_MACHINE = "from -1 to 1, the centre, as Teachable Machine gives them"
TEACHABLE_MACHINE_NAMES = (
    re.compile(rb"dense_Dense\d"),
    re.compile(rb"global_average_pooling2d_GlobalAveragePooling2D\d|sequential_\d+_input"),
)
"""TensorFlow.js's names in a network that Teachable Machine exports: of its last layers, and of the pooling before
these or of the input of a model in a model, as newer TFLite files have lost the pooling's."""

Range = Literal["raw", "unit", "signed", "normalised"]
DESCRIPTIONS: dict[Range, str] = {"raw": "0-255", "unit": "0-1", "signed": "-1 to 1", "normalised": "normalised"}

RESIZED = {"stretch": "stretched", "crop": "cropped at the centre", "fit": "the centre of the input's aspect"}

NEUTRAL = 1e-6
LARGE = 8.0
"""The least deviation or absolute mean of pixels of 0-255."""
UNIT_MEANS = (0.2, 0.8)
NORMALISED_DEVIATION = 0.75
CAFFE_TOLERANCE = 3.0

COPIES = ("Cast", "Dropout", "identity", "_copy", "BlockGrad")
VALUES_KEPT = frozenset((*COPIES, "transpose", "Reshape", "reshape", "Flatten", "flatten", "Pad", "pad"))


@dataclass(frozen=True)
class Normalisation:
    """A network's own normalisation of its input: ``x * scale + offset``, for all channels or for each.

    ``steps`` names the operations. ``learned`` is true if the numbers are a layer's statistics of its training data.
    ``reversed`` is true if the channels were reversed before.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    steps: tuple[str, ...] = ()
    learned: bool = False
    reversed: bool = False

    @classmethod
    def none(cls) -> Normalisation:
        """Return the normalisation that changes nothing."""
        return cls(np.ones(1), np.zeros(1))

    def times(self, factor: Any, step: str) -> Normalisation:
        """Return this normalisation, multiplied by one number or by a number for each channel."""
        values = _per_channel(factor)
        return replace(self, scale=self.scale * values, offset=self.offset * values, steps=(*self.steps, step))

    def plus(self, summand: Any, step: str) -> Normalisation:
        """Return this normalisation, with one number or a number for each channel added."""
        return replace(self, offset=self.offset + _per_channel(summand), steps=(*self.steps, step))

    def standardised(self, mean: Any, variance: Any, step: str) -> Normalisation:
        """Return this normalisation followed by a layer that removes the mean and the variance of its training data.

        The layer's own scale and shift afterwards are left out, because they do not depend on its input.
        """
        deviation = np.sqrt(np.maximum(_per_channel(variance), 1e-12))
        moved = self.plus(-_per_channel(mean), step)
        return replace(moved.times(1 / deviation, step), steps=(*self.steps, step), learned=True)

    def turned(self, step: str) -> Normalisation:
        """Return this normalisation with the channels in reverse order."""
        backwards = replace(self, scale=self.scale[::-1], offset=self.offset[::-1])
        return replace(backwards, reversed=not self.reversed, steps=(*self.steps, step))

    @property
    def is_neutral(self) -> bool:
        """Return whether nothing is normalised."""
        return bool(np.abs(self.scale - 1).max() < NEUTRAL and np.abs(self.offset).max() < NEUTRAL)

    @property
    def input_range(self) -> Range | None:
        """Return the range of pixels that the network takes; None if it does not follow from the steps."""
        if not self.scale.all() or not np.isfinite([*self.scale, *self.offset]).all():
            return None
        mean, deviation = float(np.mean(-self.offset / self.scale)), float(np.mean(1 / np.abs(self.scale)))
        if self.is_neutral and not self.learned:
            return None
        if deviation >= LARGE or abs(mean) >= LARGE:
            return "raw"
        if UNIT_MEANS[0] < mean < UNIT_MEANS[1]:
            return "unit"
        if self.learned:
            return "normalised" if deviation >= NORMALISED_DEVIATION else "signed"
        return "unit" if abs(mean) < NEUTRAL else "signed"

    @property
    def takes_bgr(self) -> bool:
        """Return whether the means are those of Caffe's networks in Caffe's order, blue first."""
        mean = -self.offset / self.scale
        caffe = np.abs(mean - CAFFE.mean).max() < CAFFE_TOLERANCE if mean.size == len(CAFFE.mean) else False
        return bool(caffe and not self.reversed)


def from_teachable_machine(names: bytes | mmap) -> bool:
    """Return whether Teachable Machine made a network.

    Another network that was trained in TensorFlow.js may have such a dense layer, but hardly the other name too.

    :param names: the names of its layers, or the file that contains them.
    """
    return all(pattern.search(names) for pattern in TEACHABLE_MACHINE_NAMES)


def pixels_of(normalisation: Normalisation, small: bool) -> tuple[Preprocess, str] | None:
    """Return the preprocessing for a network that normalises its input, and the reason; None if it does not.

    :param small: whether its pictures are of CIFAR's size rather than ImageNet's.
    """
    pixel_range = normalisation.input_range
    if pixel_range is None:
        return None
    conventions = {"raw": RAW, "unit": UNIT, "signed": SIGNED, "normalised": CIFAR if small else TORCH}
    preprocess = conventions[pixel_range]
    if pixel_range == "raw" and normalisation.takes_bgr:
        preprocess = replace(preprocess, color="bgr")
    steps = " and ".join(dict.fromkeys(normalisation.steps))
    return preprocess, f"{DESCRIPTIONS[pixel_range]}: the network begins with {steps}"


def mxnet_normalisation(graph: Graph, data: str, arrays: Mapping[str, NDArray[Any]]) -> Normalisation:
    """Return an MXNet graph's own normalisation of its input.

    :param arrays: the learned arrays by name, without prefixes.
    """
    current = next((number for number, node in enumerate(graph.nodes) if node.op == "null" and node.name == data), None)
    normalisation = Normalisation.none()
    while current is not None and not normalisation.learned:
        users = [number for number, node in enumerate(graph.nodes) if current in node.inputs]
        if len(users) != 1:
            break
        node, operands = graph.nodes[users[0]], graph.nodes[users[0]].inputs
        others = [arrays.get(graph.nodes[number].name) for number in operands if number != current]
        step = _mxnet_step(normalisation, node, others, operands[0] == current)
        if step is None:
            break
        normalisation, current = step, users[0]
    return normalisation


def _mxnet_step(
    before: Normalisation, node: Node, others: list[NDArray[Any] | None], is_first: bool
) -> Normalisation | None:
    """Return the normalisation after one more operation; None if the operation is not part of a normalisation."""
    name = f"{node.op} {node.name}"
    if node.op in VALUES_KEPT:
        return before
    if node.op in ("reverse", "flip"):
        return before.turned(name)
    if node.op in ("BatchNorm", "BatchNorm_v1") and len(others) == 4:
        mean, variance = others[2:]
        return None if mean is None or variance is None else before.standardised(mean, variance, name)
    operator = node.op.lower().removeprefix("broadcast_").removeprefix("elemwise_").strip("_").removesuffix("_scalar")
    if node.op.lower().endswith("_scalar"):
        try:
            operand: Any = float(node.text("scalar", "nan"))
        except ValueError:
            return None
    elif len(others) == 1 and others[0] is not None:
        operand = others[0]
    else:
        return None
    return arithmetic(before, operator, operand, is_first, name)


OPERATORS = {
    **dict.fromkeys(("sub", "minus", "subtract"), "subtract"),
    **dict.fromkeys(("add", "plus", "addv2", "bias_add"), "add"),
    **dict.fromkeys(("mul", "multiply"), "multiply"),
    **dict.fromkeys(("div", "truediv", "realdiv", "divide"), "divide"),
    **dict.fromkeys(("rminus", "rsub"), "subtract from"),
}


def arithmetic(before: Normalisation, operator: str, operand: Any, is_first: bool, step: str) -> Normalisation | None:
    """Return the normalisation after an operation with a constant; None if it is not one of the four basic operations.

    :param operator: a framework's name of the operation, in lower case: ``sub``, ``minus``, ``truediv`` and so on.
    :param operand: the constant, for all channels or for each.
    :param is_first: whether the input comes before the constant in the operation.
    """
    values, kind = _per_channel(operand), OPERATORS.get(operator)
    if kind == "add":
        return before.plus(values, step)
    if kind == "multiply":
        return before.times(values, step)
    if kind == "subtract" and is_first:
        return before.plus(-values, step)
    if kind in ("subtract", "subtract from"):
        turned = before.times(-1, step)
        return replace(turned.plus(values, step), steps=turned.steps)
    if kind == "divide" and is_first and values.all():
        return before.times(1 / values, step)
    return None


def _per_channel(values: Any) -> NDArray[np.float64]:
    """Return a constant as one number or three; for a whole mean picture, its mean."""
    flat = np.asarray(values, np.float64).ravel()
    return flat if flat.size in (1, 3) else np.array([flat.mean() if flat.size else np.nan])


def describe_pixels(preprocess: Preprocess) -> str:
    """Return a preprocessing in one line: colour, resizing and arithmetic."""
    arithmetic = f"(pixel * {preprocess.scale:.6g} - {_listed(preprocess.mean)}) / {_listed(preprocess.std)}"
    return f"{preprocess.color}, {RESIZED[preprocess.resize]}, {arithmetic}"


def _listed(values: tuple[float, ...]) -> str:
    numbers = ", ".join(f"{value:.6g}" for value in values)
    return numbers if len(values) == 1 else f"[{numbers}]"
