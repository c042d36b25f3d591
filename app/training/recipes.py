"""What is trained, on what, and how: the smile network and the cat/dog network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.training.augment import Augmentation
from app.training.networks import dogcat_network, dogcat_training_network, smile_network, smile_training_network
from app.types import Postprocess, Preprocess


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model out of a data set.

    ``folders`` maps the data set's folders to class numbers; ``test`` is the share of pictures that training never
    sees. ``trained`` builds the network that is trained, ``served`` the one that is served, whose answers are the same.
    The learning rate falls from ``rate`` to nothing along half a cosine over the epochs.
    """

    name: str
    data: str
    labels: tuple[str, str]
    folders: Mapping[str, int]
    shape: tuple[int, ...]
    preprocess: Preprocess
    postprocess: Postprocess
    trained: Callable[[], Any]
    served: Callable[[], Any]
    augmentation: Augmentation
    batch: int
    epochs: int
    rate: float
    test: float
    checkpoint: bool


SMILE = Recipe(
    name="smile",
    data="SMILEsmileD",
    labels=("non-smiling", "smiling"),
    folders={"negatives": 0, "positives": 1},
    shape=(0, 1, 32, 32),
    preprocess=Preprocess(color="grey", interpolation="bilinear", antialias=True, scale=1 / 255, faces=True),
    postprocess=Postprocess(top=0),
    trained=smile_training_network,
    served=smile_network,
    augmentation=Augmentation(zoom=0.06, shift=0.04, rotation=6, shear=0, light=0.1),
    batch=128,
    epochs=14,
    rate=1e-3,
    test=0.1,
    checkpoint=True,
)

DOGCAT = Recipe(
    name="dogcat",
    data="dogs_and_cats",
    labels=("cat", "dog"),
    folders={"cats": 0, "dogs": 1},
    shape=(0, 3, 150, 150),
    preprocess=Preprocess(color="rgb", interpolation="bilinear", antialias=True, scale=1 / 255),
    postprocess=Postprocess(top=0),
    trained=dogcat_training_network,
    served=dogcat_network,
    augmentation=Augmentation(zoom=0.2, shift=0.1, rotation=10, shear=0.1, light=0.2),
    batch=32,
    epochs=60,
    rate=1e-3,
    test=0.15,
    checkpoint=False,
)
