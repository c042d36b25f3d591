"""Pictures to compare two engines on: as unlike each other as pictures are, and always the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.settings import ROOT
from app.types import FloatArray, Preprocess

PHOTOGRAPH = ROOT / "static" / "astronaut.jpg"
WINDOWS = ((0.0, 0.0, 1.0, 1.0), (0.25, 0.0, 0.65, 0.4), (0.4, 0.4, 1.0, 1.0))
"""Parts of the photograph, by left, top, right and bottom edge: all of it, the face, the suit."""
NOISE = 3
COUNT = 8 + len(WINDOWS) + NOISE

Pixels = NDArray[np.float64]


def samples(preprocess: Preprocess, shape: tuple[int, ...], chosen: Sequence[int] = ()) -> FloatArray:
    """Return inputs: eight drawn pictures, three parts of a photograph and three of noise.

    They have the network's size already, so of ``preprocess`` only the arithmetic and the layout apply. An input of
    three axes is a grey picture; an input that is no picture gets noise alone.

    :param shape: the network's input with its batch axis, which does not count.
    :param chosen: which of the 14 inputs to return, by their numbers; all if there are none.
    :returns: float32, (N, …), in the range that the network expects.
    """
    numbers = chosen or range(COUNT)
    if len(shape) not in (3, 4):
        noise = np.random.default_rng(0).uniform(0, 255, (COUNT, *shape[1:]))
        return np.asarray(noise[list(numbers)] * preprocess.scale, np.float32)
    channels_last = preprocess.layout == "NHWC"
    full = shape if len(shape) == 4 else (0, *shape[1:], 1) if channels_last else (0, 1, *shape[1:])
    height, width, channels = full[1:] if channels_last else (full[2], full[3], full[1])
    pictures = list(islice(_pictures(height, width), max(numbers) + 1))  # made one by one, so low numbers cost little
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
    """Make a picture grey, or repeat its colours, until it has as many channels as the network wants."""
    if channels == 1:
        picture = picture.mean(axis=2, keepdims=True)
    return np.resize(picture.transpose(2, 0, 1), (channels, *picture.shape[:2])).transpose(1, 2, 0)


def _row(numbers: tuple[float, ...]) -> Any:
    """One number for each channel, or one for all."""
    return np.array(numbers) if len(numbers) > 1 else numbers[0]
