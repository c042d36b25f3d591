"""Comparison of two engines: sample pictures, differences, and a check of repeatability."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine
from app.errors import ModelFormatError
from app.settings import ROOT
from app.types import Activation, FloatArray, Preprocess, Signature

LIMIT = 1e-4
"""Largest acceptable difference between two probabilities: it changes no decision."""
LOOSE_LIMIT = 0.02
"""The same for files that no other engine could serve, of ONNX and of TensorFlow Lite in 8 bits: networks in 8 or 16
bits round differently, and exponentials of large logits enlarge the last bits."""
TENSORFLOW_LITE = "tensorflow-lite"
LOOSE = ("onnxruntime", "onnx", TENSORFLOW_LITE)
"""The references of such files."""


def limit_of(reference: str) -> float:
    """Return the largest acceptable difference from a reference.

    :param reference: name of the reference, as an engine or as a package.
    """
    return LOOSE_LIMIT if reference in LOOSE else LIMIT


def predict_each(engine: Engine, rows: FloatArray) -> FloatArray:
    """Return an engine's outputs (N, classes) for inputs (N, …), computed one by one."""
    return np.concatenate([engine.predict(rows[number : number + 1]) for number in range(len(rows))])


def predict_within(engine: Engine, rows: FloatArray, seconds: float) -> FloatArray:
    """Return an engine's outputs (M, classes) for the first of N inputs, as many as it computes in the time.

    At least one input is computed.
    """
    ends = time.monotonic() + seconds
    answers = [engine.predict(rows[:1])]
    for number in range(1, len(rows)):
        if time.monotonic() > ends:
            break
        answers.append(engine.predict(rows[number : number + 1]))
    return np.concatenate(answers)


def difference(actual: FloatArray, expected: FloatArray, activation: Activation) -> float:
    """Return the difference between an engine's outputs (N, classes) and the reference's.

    :param activation: turns the outputs into probabilities.
    :returns: the largest difference between probabilities; for other outputs, relative to the reference's largest
        value. Infinite if a value is not a number, or the shapes differ.
    """
    if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return float("inf")
    ours, reference = activate(actual, activation), activate(expected, activation)
    return float(np.abs(ours - reference).max() / max(1.0, np.abs(reference).max()))


def activate(rows: NDArray[np.floating[Any]], activation: Activation) -> NDArray[np.float64]:
    """Return the softmax or the sigmoid of a network's outputs (N, classes), in 64 bits."""
    wide = rows.astype(np.float64)
    if activation == "softmax":
        wide = np.exp(wide - wide.max(axis=1, keepdims=True))
        wide /= wide.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        wide = 1 / (1 + np.exp(-np.clip(wide, -700, 700)))  # e^709 is the largest that float64 holds
    return wide


PHOTOGRAPH = ROOT / "static" / "astronaut.jpg"
WINDOWS = ((0.0, 0.0, 1.0, 1.0), (0.25, 0.0, 0.65, 0.4), (0.4, 0.4, 1.0, 1.0))
"""Parts of the photograph, by left, top, right and bottom edge: all of it, the face, the suit."""
NOISE = 3
COUNT = 8 + len(WINDOWS) + NOISE
ORDER = (2, 9, 4, 8, 3, 5, 6, 7, 10, 11, 12, 13, 0, 1)
"""Numbers of the samples, the most telling ones first."""

Pixels = NDArray[np.float64]


def samples(preprocess: Preprocess, shape: tuple[int, ...], chosen: Sequence[int] = ()) -> FloatArray:
    """Return inputs: eight drawn pictures, three parts of a photograph and three of noise.

    They already have the network's size, so only the arithmetic and the layout of ``preprocess`` apply. An input of
    three axes is a grey picture; an input that is not a picture gets only noise.

    :param shape: shape of the network's input, with its batch axis, which is ignored.
    :param chosen: numbers of the inputs to return, of 14; all if empty.
    :returns: float32, (N, …), in the range that the network expects.
    """
    numbers = chosen or range(COUNT)
    if len(shape) not in (3, 4):
        noise = np.random.default_rng(0).uniform(0, 255, (COUNT, *shape[1:]))
        return np.asarray(noise[list(numbers)] * preprocess.scale, np.float32)
    channels_last = preprocess.layout == "NHWC"
    full = shape if len(shape) == 4 else (0, *shape[1:], 1) if channels_last else (0, 1, *shape[1:])
    height, width, channels = full[1:] if channels_last else (full[2], full[3], full[1])
    pictures = list(islice(_pictures(height, width), max(numbers) + 1))  # made lazily, so low numbers cost little
    pixels = np.stack([_with_channels(pictures[number], channels) for number in numbers])
    tensor = (pixels * preprocess.scale - _row(preprocess.mean)) / _row(preprocess.std)
    rows = np.ascontiguousarray(tensor if channels_last else tensor.transpose(0, 3, 1, 2), np.float32)
    return rows.reshape(len(rows), *shape[1:])


def _pictures(height: int, width: int) -> Iterator[Pixels]:
    yield from _drawn(height, width)
    yield from _photographed(height, width)
    draw = np.random.default_rng(0)
    for _ in range(NOISE):
        yield draw.uniform(0, 255, (height, width, 3))


def _drawn(height: int, width: int) -> Iterator[Pixels]:
    y, x = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    none, full = np.zeros_like(x), np.ones_like(x)
    yield _coloured(none, none, none)
    yield _coloured(full, full, full)
    yield _coloured(x, y, 1 - x)
    yield _coloured(np.hypot(x - 0.5, y - 0.5) < 0.3, none, y)
    yield _coloured((x * 8 % 1 < 0.5) ^ (y * 8 % 1 < 0.5), full / 2, x)
    yield _coloured(x * 16 % 1 < 0.5, x * 16 % 1 < 0.5, x * 16 % 1 < 0.5)
    yield _coloured(np.abs(x - y) < 0.1, np.abs(x + y - 1) < 0.1, full)
    yield _coloured(np.sin(20 * x * y) / 2 + 0.5, np.cos(9 * x) / 2 + 0.5, np.exp(-4 * y))


def _coloured(*channels: NDArray[Any]) -> Pixels:
    pixels: Pixels = np.stack(channels, axis=2) * 255.0
    return pixels


def _photographed(height: int, width: int) -> Iterator[Pixels]:
    from PIL import Image

    with Image.open(PHOTOGRAPH) as photograph:
        picture = photograph.convert("RGB")
    across, down = picture.size
    for left, top, right, bottom in WINDOWS:
        box = (left * across, top * down, right * across, bottom * down)
        yield np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box), np.float64)


def _with_channels(picture: Pixels, channels: int) -> Pixels:
    """Convert a picture to grey, or repeat its channels, to get the network's number of channels."""
    if channels == 1:
        picture = picture.mean(axis=2, keepdims=True)
    return np.resize(picture.transpose(2, 0, 1), (channels, *picture.shape[:2])).transpose(1, 2, 0)


def _row(numbers: tuple[float, ...]) -> Any:
    """Return one number per channel, or one for all."""
    return np.array(numbers) if len(numbers) > 1 else numbers[0]


SAME = 1e-6
"""Relative difference, of the largest value, up to which two outputs count as equal."""
REPEATABLE = 1e-4
"""Relative difference, of the largest value, that two computations of the same picture may have."""
PICTURES, FACE = (2, 4), 9
"""Numbers of the samples: a gradient and a chequered picture; and a face, for networks that answer both alike."""


def probe(engine: Engine, signature: Signature) -> tuple[FloatArray, list[str]]:
    """Compute different pictures, each of them twice.

    :returns: the network's outputs (N, classes), and warnings.
    :raises ModelFormatError: if an output is not a row of finite numbers, or the same picture gets two outputs.
    """
    preprocess, shape = signature.preprocess, signature.inputs[0].shape
    rows = samples(preprocess, shape, PICTURES)
    answers, again = predict_each(engine, rows), predict_each(engine, rows)
    if not np.isfinite(answers).all():
        raise ModelFormatError("the network's answer holds values that are not numbers; its weights are damaged")
    largest = max(1.0, float(np.abs(answers).max()))
    if not np.abs(answers - again).max() <= REPEATABLE * largest:
        raise ModelFormatError("the network gives two answers for the same picture; its engine cannot compute it")
    if np.abs(answers[0] - answers[1]).max() <= SAME * largest:
        answers = np.concatenate([answers, engine.predict(samples(preprocess, shape, (FACE,)))])
        if np.abs(answers - answers[0]).max() <= SAME * largest:
            return answers, [
                f"different pictures get the same answer. Most likely the network takes other pixels than it is given "
                f"(scale {preprocess.scale:.6g}): correct preprocess in signature.json, or import it again with "
                "--scale and --mean"
            ]
    if signature.postprocess.activation == "none" and not _are_probabilities(answers):
        return answers, [
            "its answers are not probabilities of 0-1, and signature.json asks for no activation: state "
            '"postprocess": {"activation": "softmax"} there if they are logits'
        ]
    return answers, []


def _are_probabilities(answers: FloatArray) -> bool:
    return bool((answers >= -SAME).all() and (answers <= 1 + REPEATABLE).all())
