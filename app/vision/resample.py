"""Resizing without antialiasing in NumPy, by the rules of OpenCV's ``resize``, for installations without OpenCV.

``nearest`` and ``bilinear`` give OpenCV's own bytes. The others differ by at most one level in 255, because OpenCV adds
up in 32-bit floats, in an order that depends on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import Interpolation

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

ONE = 2048
"""The integer that stands for the weight 1."""
CUBIC = -0.75
"""The slope of OpenCV's cubic kernel, of which Keys' own is -0.5."""


def resize(pixels: Pixels, width: int, height: int, interpolation: Interpolation) -> Pixels:
    """Resize an image.

    :param pixels: (H, W) or (H, W, C), 0-255.
    :returns: (``height``, ``width``) or (``height``, ``width``, C).
    """
    scales = pixels.shape[0] / height, pixels.shape[1] / width
    if interpolation in ("bilinear", "area") and scales == (2, 2):
        return _halve(pixels)
    if interpolation == "nearest":
        rows, columns = (_nearest(*axis) for axis in zip((height, width), pixels.shape, strict=False))
        return pixels[rows][:, columns]
    if interpolation == "area" and min(scales) >= 1:
        return _rounded(_average(_average(pixels, height, 0), width, 1))
    rows, down = _taps(height, pixels.shape[0], interpolation)
    columns, across = _taps(width, pixels.shape[1], interpolation)
    lines = _apply(pixels[rows.reshape(-1)], columns, across).reshape(*rows.shape, width, *pixels.shape[2:])
    if interpolation in ("bilinear", "area"):
        return _in_two_steps(lines, down)
    total = np.einsum("nk...,nk->n...", lines.astype(np.int64), down)
    rounded: Pixels = np.clip((total + ONE * ONE // 2) // (ONE * ONE), 0, 255).astype(np.uint8)
    return rounded


def _nearest(size: int, source: int) -> NDArray[np.int64]:
    step = 1 / (size / source)
    return np.minimum((np.arange(size) * step).astype(np.int64), source - 1)


def _apply(lines: Pixels, columns: NDArray[np.int64], weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """Weigh the columns of lines (N, W, …) -> (N, width, …)."""
    shape = (1, -1, *[1] * (lines.ndim - 2))
    total = lines[:, columns[:, 0]] * weights[:, 0].reshape(shape)
    for tap in range(1, columns.shape[1]):
        total += lines[:, columns[:, tap]] * weights[:, tap].reshape(shape)
    return total


def _in_two_steps(lines: NDArray[np.int32], down: NDArray[np.int32]) -> Pixels:
    """Add pairs of lines as OpenCV does, which drops bits of each before it adds them."""
    shape = (-1, *[1] * (lines.ndim - 2))
    upper = (lines[:, 0] >> 4) * down[:, 0].reshape(shape) >> 16
    lower = (lines[:, 1] >> 4) * down[:, 1].reshape(shape) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _taps(size: int, source: int, interpolation: Interpolation) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the source positions and the weights of each position of the result, both (``size``, taps)."""
    ratio = size / source
    step = 1 / ratio
    if interpolation == "area":  # of an image that grows in one of its axes
        first = np.floor(np.arange(size) * step).astype(np.int64)
        offset = (np.arange(1, size + 1) - (first + 1) * ratio).astype(np.float32).astype(np.float64)
        offset = np.where(offset <= 0, 0, offset - np.floor(offset))
    else:
        at = ((np.arange(size) + 0.5) * step - 0.5).astype(np.float32)
        floor = np.floor(at)
        first, offset = floor.astype(np.int64), (at - floor).astype(np.float64)
    count, weigh = _KERNELS[interpolation]
    around = first[:, np.newaxis] + np.arange(1 - count // 2, 1 + count // 2)
    weights = np.rint(weigh(offset).astype(np.float32) * ONE).astype(np.int32)
    return around.clip(0, source - 1), weights


def _linear(offset: Floats) -> Floats:
    return np.stack([1 - offset, offset], axis=1)


def _cubic(offset: Floats) -> Floats:
    def outer(x: Floats) -> Floats:
        return CUBIC * (((x - 5) * x + 8) * x - 4)

    def inner(x: Floats) -> Floats:
        return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1

    first, second, third = outer(offset + 1), inner(offset), inner(1 - offset)
    return np.stack([first, second, third, 1 - first - second - third], axis=1)


def _lanczos(offset: Floats) -> Floats:
    distance = offset[:, np.newaxis] + 3 - np.arange(8)
    weights: Floats = np.sinc(distance) * np.sinc(distance / 4)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


_KERNELS: dict[Interpolation, tuple[int, Callable[[Floats], Floats]]] = {
    "bilinear": (2, _linear),
    "area": (2, _linear),
    "bicubic": (4, _cubic),
    "lanczos": (8, _lanczos),
}


def _average(pixels: NDArray[Any], size: int, axis: int) -> Floats:
    """Average the source positions that each position of the result covers, wholly or in part, along an axis."""
    pixels = np.moveaxis(pixels, axis, 0)
    edges = np.arange(size) * (len(pixels) / size)
    whole = edges.astype(np.int64)
    part = (edges - whole).reshape(-1, *[1] * (pixels.ndim - 1))
    cut = part * pixels[whole]  # what an edge inside a position takes from its right part, and gives to its left part
    covered = np.add.reduceat(pixels, whole, axis=0, dtype=np.float64) - cut
    covered[:-1] += cut[1:]
    return np.moveaxis(covered * (size / len(pixels)), 0, axis)


def _rounded(values: Floats) -> Pixels:
    rounded: Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def _halve(pixels: Pixels) -> Pixels:
    """Average 2 x 2 pixels, of which OpenCV rounds halves up."""
    rows = pixels[0::2].astype(np.uint16) + pixels[1::2]
    halved: Pixels = (rows[:, 0::2] + rows[:, 1::2] + 2 >> 2).astype(np.uint8)
    return halved
