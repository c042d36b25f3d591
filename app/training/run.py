"""Training and evaluation from the raw pictures on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from app.engines.compat import import_keras
from app.training.export import export
from app.training.fit import class_one, fit
from app.training.measure import Measured, measure
from app.training.networks import fold_normalisation
from app.training.pictures import Split, read_split
from app.training.recipes import Recipe


def train(recipe: Recipe, source: Path, models_dir: Path, work_dir: Path, epochs: int | None, seed: int) -> Measured:
    """Train a network on the pictures of ``source``, measure it on those it never saw, and write its model folder.

    :param work_dir: folder for what is needed only while it runs.
    :param epochs: None takes the recipe's.
    :raises DataError: where the pictures cannot be used.
    """
    keras = import_keras()
    import mxnet

    split = _split(recipe, source)
    mxnet.random.seed(seed)
    keras.backend.clear_session()
    network = recipe.trained()
    fit(network, recipe, split, epochs or recipe.epochs, seed, work_dir / f"{recipe.name}-{os.getpid()}.h5")
    keras.backend.clear_session()  # names count up in a session; the served network's are to be the first
    network = fold_normalisation(network, recipe.served())
    network.compile(optimizer="sgd", loss="mse")  # Keras-MXNet exports only what is compiled; neither is used
    measured = _measure(network, split)
    export(network, recipe, measured, models_dir)
    return measured


def _split(recipe: Recipe, source: Path) -> Split:
    return read_split(source, recipe.folders, recipe.preprocess, recipe.shape, recipe.test)


def _measure(network: Any, split: Split) -> Measured:
    return measure(class_one(network, split.test.pictures), split.test.classes)
