"""The loop that trains a network."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.engines.compat import import_keras
from app.errors import DataError
from app.training.augment import augment
from app.training.pictures import Part, Split
from app.training.recipes import Recipe
from app.types import FloatArray


def fit(network: Any, recipe: Recipe, split: Split, epochs: int, seed: int, best: Path) -> None:
    """Train, and leave the network with the weights of the epoch that validated best (lowest loss).

    :param best: file to which the weights are written whenever they are the best so far.
    :raises DataError: where there are too few pictures for one batch.
    """
    if len(split.train.classes) < recipe.batch:
        raise DataError(f"{len(split.train.classes)} training pictures are too few: at least {recipe.batch} are needed")
    keras = import_keras()
    network.compile(optimizer=keras.optimizers.Adam(lr=recipe.rate), loss=_loss(network))
    draw = np.random.default_rng(seed)
    weights = _class_weights(split.train)
    lowest = math.inf
    best.parent.mkdir(parents=True, exist_ok=True)
    for epoch in range(epochs):
        started = time.monotonic()
        rate = recipe.rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
        keras.backend.set_value(network.optimizer.lr, rate)
        loss = _train_epoch(network, recipe, split.train, weights, draw, f"epoch {epoch + 1}/{epochs}")
        validation, accuracy = _validate(network, split.validation)
        tqdm.write(
            f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}, validation loss {validation:.4f}, "
            f"validation accuracy {accuracy:.4f}, {time.monotonic() - started:.0f} s"
        )
        if validation < lowest:
            lowest = validation
            network.save_weights(str(best))
    load_weights(network, best)


def load_weights(network: Any, path: Path) -> None:
    """Give a network the weights that were saved from one like it, layer by layer and by name."""
    import h5py

    with h5py.File(path, "r") as file:
        for layer in network.layers:
            group = file[layer.name]
            names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["weight_names"]]
            layer.set_weights([np.asarray(group[name]) for name in names])


def class_one(network: Any, pictures: FloatArray) -> FloatArray:
    """The probability of class 1 for every picture: (N, …) -> (N,)."""
    rows: FloatArray = network.predict(pictures, batch_size=64)
    return rows[:, -1]


def _loss(network: Any) -> str:
    return "binary_crossentropy" if network.output_shape[-1] == 1 else "categorical_crossentropy"


def _class_weights(part: Part) -> dict[int, float]:
    """Weights that make both classes count alike, however many pictures each has."""
    counts = np.bincount(part.classes, minlength=2)
    return {number: len(part.classes) / (2 * int(count)) for number, count in enumerate(counts)}


def _train_epoch(
    network: Any, recipe: Recipe, part: Part, weights: dict[int, float], draw: np.random.Generator, title: str
) -> float:
    order = draw.permutation(len(part.classes))
    # batches of one size only: MXNet would bind, and keep, another executor for the odd last one
    starts = range(0, len(order) - recipe.batch + 1, recipe.batch)
    losses = []
    for start in tqdm(starts, desc=title, unit="batch", leave=False, disable=None):
        chosen = order[start : start + recipe.batch]
        pictures = augment(part.pictures[chosen], recipe.augmentation, draw)
        targets = _targets(part.classes[chosen], network.output_shape[-1])
        losses.append(network.train_on_batch(pictures, targets, class_weight=weights))
    return float(np.mean(losses))


def _targets(classes: NDArray[np.int64], columns: int) -> FloatArray:
    if columns == 1:
        return classes.astype(np.float32)[:, np.newaxis]
    return np.eye(columns, dtype=np.float32)[classes]


def _validate(network: Any, part: Part) -> tuple[float, float]:
    """Log loss and accuracy on a part, without class weights."""
    probability = np.clip(class_one(network, part.pictures).astype(np.float64), 1e-7, 1 - 1e-7)
    truth = part.classes == 1
    loss = -np.log(np.where(truth, probability, 1 - probability)).mean()
    return float(loss), float(np.mean((probability >= 0.5) == truth))
