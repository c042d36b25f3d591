"""Augmentation: small changes to a picture that do not change its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.types import FloatArray
from app.vision.preprocess import warp


@dataclass(frozen=True)
class Augmentation:
    """The ranges of the changes to a picture; each change is drawn uniformly from its range.

    ``zoom``, ``stretch`` (of the width against the height) and ``shift`` are shares of the side, ``rotation`` is in
    degrees, ``shear`` in pixels per pixel; ``contrast``, ``brightness`` and ``tint`` (separate for each channel) are
    shares of the values. ``erase`` is the probability that a rectangle of a random grey covers a part. Half of all
    pictures are mirrored.
    """

    zoom: float = 0
    stretch: float = 0
    shift: float = 0
    rotation: float = 0
    shear: float = 0
    contrast: float = 0
    brightness: float = 0
    tint: float = 0
    erase: float = 0


def augment(batch: FloatArray, how: Augmentation, draw: np.random.Generator) -> FloatArray:
    """Change every picture of a batch (N, C, H, W) of values 0-1; areas from outside mirror the inside."""
    return np.stack([_augment_one(picture, how, draw) for picture in batch])


def _augment_one(picture: FloatArray, how: Augmentation, draw: np.random.Generator) -> FloatArray:
    moved = warp(picture.transpose(1, 2, 0), _matrix(how, draw, picture.shape[-1]))
    changed = _relight(moved.reshape(*picture.shape[1:], picture.shape[0]).transpose(2, 0, 1), how, draw)
    if draw.random() < how.erase:
        _erase(changed, draw)
    return changed


def _matrix(how: Augmentation, draw: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Return the source position of each point of the changed picture, as a matrix (2, 3)."""
    angle = np.deg2rad(draw.uniform(-how.rotation, how.rotation))
    zoom, stretch = 1 + draw.uniform(-how.zoom, how.zoom), 1 + draw.uniform(-how.stretch, how.stretch)
    mirror = draw.choice((-1.0, 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[mirror * stretch, draw.uniform(-how.shear, how.shear)], [0.0, 1 / stretch]])
    linear = zoom * turn @ shear
    centre = np.full(2, (side - 1) / 2)
    offset = centre - linear @ centre + draw.uniform(-how.shift, how.shift, 2) * side
    return np.column_stack([linear, offset])


def _relight(picture: FloatArray, how: Augmentation, draw: np.random.Generator) -> FloatArray:
    contrast = 1 + draw.uniform(-how.contrast, how.contrast)
    brightness = 1 + draw.uniform(-how.brightness, how.brightness)
    tint = 1 + draw.uniform(-how.tint, how.tint, (len(picture), 1, 1))
    mean = picture.mean()
    relit: FloatArray = np.clip(((picture - mean) * contrast + mean * brightness) * tint, 0, 1).astype(np.float32)
    return relit


def _erase(picture: FloatArray, draw: np.random.Generator) -> None:
    """Cover a rectangle of a sixteenth to a third of each side (Zhong et al. 2017, "Random erasing")."""
    side = picture.shape[-1]
    height, width = draw.integers(side // 16, side // 3, 2)
    top, left = draw.integers(0, side - height), draw.integers(0, side - width)
    picture[:, top : top + height, left : left + width] = draw.random()
