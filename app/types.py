"""What moves between the rooms: named data without behaviour of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

Color = Literal["rgb", "bgr", "grey"]
Resize = Literal["stretch", "crop", "fit"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
Layout = Literal["NCHW", "NHWC"]
Activation = Literal["none", "softmax", "sigmoid"]


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor. ``shape`` includes the batch axis; 0 stands for any size, as in MMS's signature.json."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Preprocess:
    """Everything that turns an upright RGB photograph into the network's input.

    The tensor is ``(pixel * scale - mean) / std`` with pixels 0-255, laid out as ``layout`` says. Its height and width
    are those of the input's shape.

    ``resize`` is ``stretch`` (aspect ignored), ``crop`` (shorter side to ``shorter_side``, or to the input's own size
    where that is 0, then the centre) or ``fit`` (the largest centred part of the input's aspect, resized by Pillow).
    ``antialias`` true is Pillow's resampling, false is OpenCV's.
    ``faces`` says that the network looks at faces: they are found first and each is classified.
    """

    color: Color = "rgb"
    resize: Resize = "stretch"
    shorter_side: int = 0
    interpolation: Interpolation = "bicubic"
    antialias: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    faces: bool = False


@dataclass(frozen=True)
class Postprocess:
    """What turns the network's output row into probabilities, and how many of them are reported.

    One sigmoid output *p* stands for two classes, of probabilities *1 - p* and *p*.
    ``top`` 0 reports every class.
    """

    activation: Activation = "none"
    top: int = 5


@dataclass(frozen=True)
class Signature:
    """A model's own description of itself: its tensors and what surrounds them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    postprocess: Postprocess = field(default_factory=Postprocess)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright picture; the origin is its upper left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Prediction:
    """One class and its probability, 0-1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Face:
    """One face and what the network says of it."""

    box: Box
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    ``faces`` is None where none were looked for, and empty where none were found. ``note`` is a sentence for the
    reader where something about the answer should be known. ``timing_ms`` maps the steps to milliseconds.
    """

    model: str
    version: str
    predictions: tuple[Prediction, ...]
    faces: tuple[Face, ...] | None
    timing_ms: dict[str, float]
    note: str = ""
