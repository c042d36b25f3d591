"""Plausible ways in which pictures become the input of a network whose own preprocessing nobody knows, their trials,
and the statistics that compare these."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine
from app.errors import ModelFormatError
from app.formats.pixels import CAFFE, CIFAR, RAW, SIGNED, TORCH, UNIT
from app.serving.model import probabilities
from app.types import Color, Interpolation, Preprocess, Signature
from app.vision.preprocess import input_size, normalise

ROWS = 32
"""Rows that are computed in one call."""
LEAST_PROBABILITY = 1e-4
"""Probabilities below count as this, so that one picture with a wrong label does not decide."""
SIGNIFICANT, DEVIATIONS = 0.05, 2.0
"""Two ways differ if chance explains the difference with less than this probability, or by as many deviations."""
RESAMPLES = 60
CLASSES = 200
"""The largest number of classes whose shared bits are computed; the rarest others count as one."""


@dataclass(frozen=True)
class Trial:
    """What a network answers with a preprocessing.

    ``score`` is the accuracy, 0-1; without labels the bits that a picture and its shifted copy share. ``likelihood`` is
    the mean logarithm of the true class's probability. ``confidence`` is the mean of the largest probability, and
    ``stability`` the share of the pictures whose class the shift does not change, None with labels.
    """

    preprocess: Preprocess
    score: float
    confidence: float
    likelihood: float = 0.0
    stability: float | None = None
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False, compare=False)
    logs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def name(self) -> str:
        """Return the preprocessing in a few words."""
        return describe(self.preprocess)


class Judge:
    """Trials of one network on the same pictures."""

    def __init__(self, engine: Engine, signature: Signature, truth: NDArray[np.int64] | None) -> None:
        """Judge by an engine's answers; ``truth`` are the classes (N,) of the pictures, None if nobody knows them."""
        self._engine = engine
        self._shape = signature.inputs[0].shape
        self._activation = signature.postprocess.activation
        self._truth = truth

    def trial(self, pixels: NDArray[np.uint8], preprocess: Preprocess) -> Trial:
        """Compute the answers for pixels (N, H, W, C) with a preprocessing."""
        try:
            rows = self._answers(pixels, preprocess)
            if self._truth is not None:
                return _labelled(preprocess, rows, self._truth)
            return _unlabelled(preprocess, rows, self._answers(_shifted(pixels), preprocess))
        except ModelFormatError:  # values that are not numbers
            return Trial(preprocess, -1.0, 0.0, -math.inf)

    def _answers(self, pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float64]:
        """Return the probabilities (N, classes)."""
        parts = []
        for start in range(0, len(pixels), ROWS):
            tensors = [normalise(item, preprocess, self._shape) for item in pixels[start : start + ROWS]]
            parts.append(probabilities(self._engine.predict(np.concatenate(tensors)), self._activation))
        return np.concatenate(parts).astype(np.float64)


def _shifted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels (N, H, W, C) shifted by a fortieth of the sides; the edges are repeated."""
    down, across = (max(1, side // 40) for side in pixels.shape[1:3])
    padded = np.pad(pixels, ((0, 0), (down, 0), (across, 0), (0, 0)), "edge")
    return padded[:, : pixels.shape[1], : pixels.shape[2]]


def _labelled(preprocess: Preprocess, rows: NDArray[np.float64], truth: NDArray[np.int64]) -> Trial:
    right = rows.argmax(axis=1) == truth
    logs = np.log(np.maximum(rows[np.arange(len(rows)), truth], LEAST_PROBABILITY))
    return Trial(
        preprocess, float(right.mean()), float(rows.max(axis=1).mean()), float(logs.mean()), right=right, logs=logs
    )


def _unlabelled(preprocess: Preprocess, rows: NDArray[np.float64], again: NDArray[np.float64]) -> Trial:
    same = rows.argmax(axis=1) == again.argmax(axis=1)
    frequent = np.argsort(-(rows + again).sum(axis=0))[:CLASSES]
    first, second = (np.column_stack([part[:, frequent], _rest(part[:, frequent])]) for part in (rows, again))
    draw = np.random.default_rng(0)
    chosen = (draw.integers(0, len(rows), len(rows)) for _ in range(RESAMPLES))
    logs = np.array([_shared_bits(first[numbers], second[numbers]) for numbers in chosen])
    bits = _shared_bits(first, second)
    return Trial(preprocess, bits, float(rows.max(axis=1).mean()), bits, float(same.mean()), logs=logs)


def _rest(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    rest: NDArray[np.float64] = np.maximum(0.0, 1 - rows.sum(axis=1))
    return rest


def _shared_bits(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the mutual information, in bits, of the classes of pictures and of their shifted copies: (N, K) each."""
    joint = first.T @ second / len(first)
    joint = (joint + joint.T) / 2
    alone = joint.sum(axis=0)
    expected = np.outer(alone, alone)
    present = joint > 1e-12
    return float((joint[present] * np.log2(joint[present] / expected[present])).sum())


def sort_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials with the best first.

    Accuracies that chance may explain do not count: among these the likelihood, which tells more, decides.
    """
    top = max(trials, key=lambda trial: (trial.score, trial.likelihood))
    close = [trial for trial in trials if not _is_less_accurate(top, trial)]
    rest = [trial for trial in trials if trial not in close]
    return [
        *sorted(close, key=lambda trial: (-trial.likelihood, -trial.score)),
        *sorted(rest, key=lambda trial: (-trial.score, -trial.likelihood)),
    ]


def is_worse(best: Trial, other: Trial) -> bool:
    """Return whether the pictures show that a trial is worse than the best, beyond chance."""
    if other is best:
        return False
    if len(best.logs) != len(other.logs):
        return True
    if _is_less_accurate(best, other):
        return True
    differences = best.logs - other.logs
    error = float(differences.std(ddof=1))
    if best.right.size:
        error /= math.sqrt(len(differences))  # of the mean; resamples scatter as the mean itself does
    return bool(differences.mean() > DEVIATIONS * error) and bool(differences.mean() > 0)


def _is_less_accurate(best: Trial, other: Trial) -> bool:
    """Return whether a trial gets fewer labelled pictures right, beyond chance (McNemar's exact test)."""
    if not best.right.size or best.right.size != other.right.size:
        return best.right.size != other.right.size
    better = int((best.right & ~other.right).sum())
    worse = int((other.right & ~best.right).sum())
    count = better + worse
    tail = sum(math.comb(count, number) for number in range(min(better, worse) + 1)) / 2**count
    return better > worse and 2 * tail < SIGNIFICANT


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
