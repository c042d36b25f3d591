"""What a network is shown, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.training.augment import augment
from app.training.recipes import Fitting
from app.types import FloatArray


@dataclass(frozen=True)
class Material:
    """Training pictures (N, C, H, W) of 0-1, their classes as (N,) numbers, and the answers of a teacher (N, T)."""

    pictures: FloatArray
    classes: NDArray[np.int64]
    taught: FloatArray | None = None


@dataclass(frozen=True)
class Batch:
    """Pictures (B, C, H, W), the targets (B, …) of each of the network's outputs, and how much each picture counts."""

    pictures: FloatArray
    targets: list[FloatArray]
    weights: FloatArray


def batches(material: Material, fitting: Fitting, columns: int, draw: np.random.Generator) -> Iterator[Batch]:
    """One epoch: every picture once, in an order by lot, except those that are left over for a whole batch.

    Batches are of one size only: MXNet would bind, and keep, another executor for an odd one.

    :param columns: of the network's answer: 2 for a softmax, 1 for a sigmoid.
    """
    weights = _class_weights(material.classes) if fitting.weigh_classes else np.ones(2, np.float32)
    order = draw.permutation(len(material.classes))
    for start in range(0, len(order) - fitting.batch + 1, fitting.batch):
        chosen = order[start : start + fitting.batch]
        pictures = material.pictures[chosen]
        if fitting.augmentation is not None:
            pictures = augment(pictures, fitting.augmentation, draw)
        classes = np.eye(2, dtype=np.float32)[material.classes[chosen]]
        targets = classes * (1 - fitting.smoothing) + fitting.smoothing / 2
        said = [targets[:, -columns:]] + ([] if material.taught is None else [material.taught[chosen]])
        yield Batch(*_mix(pictures, said, fitting.mixup, draw), classes @ weights)


def _mix(
    pictures: FloatArray, targets: list[FloatArray], alpha: float, draw: np.random.Generator
) -> tuple[FloatArray, list[FloatArray]]:
    """Blend every picture with another of the batch, and what is said of them in the same shares."""
    if not alpha:
        return pictures, targets
    share, other = np.float32(draw.beta(alpha, alpha)), draw.permutation(len(pictures))
    blended = [share * array + (1 - share) * array[other] for array in (pictures, *targets)]
    return blended[0], blended[1:]


def _class_weights(classes: NDArray[np.int64]) -> FloatArray:
    """Weights that make both classes count alike, however many pictures each has."""
    counts = np.bincount(classes, minlength=2)
    return (len(classes) / (2 * counts)).astype(np.float32)
