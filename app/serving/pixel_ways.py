"""The plausible ways in which pictures become the input of a network whose own preprocessing nobody knows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from app.formats.pixels import CAFFE, CIFAR, RAW, SIGNED, TORCH, UNIT
from app.types import Color, Interpolation, Preprocess
from app.vision.preprocess import input_size

MNIST = replace(UNIT, mean=(0.1307,), std=(0.3081,))
INVERTED = replace(RAW, scale=-1 / 255, mean=(-1.0,))
COLOURED = {
    "0-255": RAW,
    "0-1": UNIT,
    "-1 to 1": SIGNED,
    "ImageNet's mean and deviation": TORCH,
    "0-255 less Caffe's mean": CAFFE,
    "CIFAR's mean and deviation": CIFAR,
}
GREY = {"0-255": RAW, "0-1": UNIT, "-1 to 1": SIGNED, "0-1, inverted": INVERTED, "MNIST's mean and deviation": MNIST}
RESIZED = {"stretch": "stretched", "crop": "cropped", "fit": "cropped"}
INTERPOLATED: tuple[tuple[Interpolation, bool], ...] = (
    ("bilinear", True),
    ("bilinear", False),
    ("bicubic", True),
    ("nearest", False),
)


def describe(preprocess: Preprocess) -> str:
    """Return a preprocessing in a few words: colour, range, and how pictures are resized."""
    known = GREY if preprocess.color == "grey" else COLOURED
    values = [
        name for name, item in known.items() if arithmetic(in_order(item, preprocess.color)) == arithmetic(preprocess)
    ]
    interpolation = f"{preprocess.interpolation}{', smoothed' if preprocess.antialias else ''}"
    margin = f" of {preprocess.shorter_side}" if preprocess.resize == "crop" and preprocess.shorter_side else ""
    named = values[0] if values else f"(pixel * {preprocess.scale:.4g} - {preprocess.mean}) / {preprocess.std}"
    return f"{preprocess.color} {named}; {RESIZED[preprocess.resize]}{margin}, {interpolation}"


def arithmetics(inferred: Preprocess) -> list[Preprocess]:
    """Return the plausible values and orders of the channels, the inferred ones first."""
    if inferred.color == "grey":
        listed = [inferred, *(replace(item, color="grey") for item in GREY.values())]
    else:
        listed = [inferred, *(in_order(item, color) for color in ("rgb", "bgr") for item in COLOURED.values())]
    unique: dict[tuple[Any, ...], Preprocess] = {}
    for item in listed:
        unique.setdefault(arithmetic(item), item)
    return list(unique.values())


def in_order(preprocess: Preprocess, color: Color) -> Preprocess:
    """Return a preprocessing with the channels, and the numbers for each of them, in the order of a colour."""
    if color == preprocess.color or color == "grey":
        return replace(preprocess, color=color)
    return replace(preprocess, color=color, mean=preprocess.mean[::-1], std=preprocess.std[::-1])


def resizings(inferred: Preprocess, shape: tuple[int, ...]) -> list[Preprocess]:
    """Return the plausible ways to resize, the inferred one first."""
    side = min(input_size(inferred, shape))
    shapes: tuple[dict[str, Any], ...] = (
        {"resize": "stretch", "shorter_side": 0},
        {"resize": "crop", "shorter_side": 0},
        {"resize": "crop", "shorter_side": round(side * 256 / 224)},
    )
    listed = [
        replace(inferred, interpolation=interpolation, antialias=antialias, **form)
        for form, (interpolation, antialias) in itertools.product(shapes, INTERPOLATED)
    ]
    return [inferred, *(way for way in listed if way != inferred)]


def with_arithmetic(way: Preprocess, values: Preprocess) -> Preprocess:
    """Return a way to resize with other values of the pixels."""
    return replace(way, color=values.color, scale=values.scale, mean=values.mean, std=values.std)


def arithmetic(preprocess: Preprocess) -> tuple[Any, ...]:
    """Return the part of a preprocessing that is about the values of the pixels."""
    return preprocess.color, preprocess.scale, preprocess.mean, preprocess.std


def distance(preprocess: Preprocess, inferred: Preprocess) -> int:
    """Return how much a preprocessing differs from the inferred one: the values count most."""
    other_values = arithmetic(preprocess) != arithmetic(inferred)
    other_part = (preprocess.resize, preprocess.shorter_side) != (inferred.resize, inferred.shorter_side)
    other_filter = (preprocess.interpolation, preprocess.antialias) != (inferred.interpolation, inferred.antialias)
    return 4 * other_values + 2 * other_part + other_filter


def form(preprocess: Preprocess) -> tuple[Any, ...]:
    """Return the part of a preprocessing that is about the size of the picture."""
    return preprocess.resize, preprocess.shorter_side, preprocess.interpolation, preprocess.antialias
