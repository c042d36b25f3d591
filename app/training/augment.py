"""Small changes that make a picture another one of the same thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.types import FloatArray


@dataclass(frozen=True)
class Augmentation:
    """How far a picture may be changed; each change is drawn evenly from its range.

    ``zoom`` and ``shift`` are shares of the side, ``rotation`` is in degrees, ``shear`` in pixels a pixel,
    ``light`` is a share of brightness and of contrast. Half of all pictures are mirrored.
    """

    zoom: float
    shift: float
    rotation: float
    shear: float
    light: float


def augment(batch: FloatArray, how: Augmentation, draw: np.random.Generator) -> FloatArray:
    """Change every picture of a batch (N, C, H, W) of values 0-1. What lies outside a picture mirrors its inside,
    up to a quarter of its side."""
    return np.stack([_augment_one(picture, how, draw) for picture in batch])


def _augment_one(picture: FloatArray, how: Augmentation, draw: np.random.Generator) -> FloatArray:
    side = picture.shape[-1]
    margin = side // 4
    pixels = np.pad((picture * 255).astype(np.uint8), ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    matrix = _matrix(how, draw, side)
    centre_in, centre_out = side / 2 + margin, side / 2  # Pillow counts from the edge, not from the first pixel
    offset = centre_in - matrix @ (centre_out, centre_out) + draw.uniform(-how.shift, how.shift, 2) * side
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    moved = np.stack([_move(channel, coefficients, side) for channel in pixels]).astype(np.float32) / 255
    return _relight(moved, how.light, draw)


def _matrix(how: Augmentation, draw: np.random.Generator, side: int) -> NDArray[np.float64]:
    angle = np.deg2rad(draw.uniform(-how.rotation, how.rotation))
    zoom = 1 + draw.uniform(-how.zoom, how.zoom)
    mirror = draw.choice((-1.0, 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[mirror, draw.uniform(-how.shear, how.shear)], [0.0, 1.0]])
    made: NDArray[np.float64] = zoom * turn @ shear
    return made


def _move(channel: NDArray[np.uint8], coefficients: tuple[float, ...], side: int) -> NDArray[np.uint8]:
    moved = Image.fromarray(channel).transform(
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)


def _relight(picture: FloatArray, light: float, draw: np.random.Generator) -> FloatArray:
    if not light:
        return picture
    contrast, brightness = 1 + draw.uniform(-light, light), draw.uniform(-light, light)
    mean = picture.mean()
    relit: FloatArray = np.clip((picture - mean) * contrast + mean * (1 + brightness), 0, 1).astype(np.float32)
    return relit
