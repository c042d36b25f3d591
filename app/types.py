"""Data types shared by several packages, without behaviour of their own."""

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
    """The conversion of an upright RGB photograph to the network's input.

    The tensor is ``(pixel * scale - mean) / std`` with pixels 0-255, in the layout ``layout``. Its height and width
    come from the input's shape.

    ``resize`` is ``stretch`` (aspect ignored), ``crop`` (shorter side to ``shorter_side``, or to the input's own size
    if that is 0, then the centre) or ``fit`` (the largest centred part of the input's aspect, resized by Pillow).
    ``antialias`` true is Pillow's resampling, false is OpenCV's. ``faces`` is true if the network classifies faces:
    they are found first, and each is classified.
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
    """The conversion of the network's output row to probabilities, and the number of reported classes.

    One sigmoid output *p* stands for two classes with the probabilities *1 - p* and *p*. ``top`` 0 reports every class.
    """

    activation: Activation = "none"
    top: int = 5


@dataclass(frozen=True)
class Signature:
    """A model's own description: its tensors, preprocessing and postprocessing."""

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
    box: Box
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Answer:
    """A model's classification of one picture.

    ``faces`` is None if no faces were searched for, and empty if none were found. ``note`` is a sentence for the reader
    about a peculiarity of the answer. ``timing_ms`` maps the steps to milliseconds.
    """

    model: str
    version: str
    predictions: tuple[Prediction, ...]
    faces: tuple[Face, ...] | None
    timing_ms: dict[str, float]
    note: str = ""
