"""Recipes: the networks that Dimple trains and ships, and how each is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.engines.mxnet.compat import import_keras
from app.errors import DimpleError
from app.training.augment import Augmentation
from app.training.datasets import DataSpec
from app.types import Preprocess

DOGCAT_PARAMETERS = 1_212_513


def smile_tutorial_network() -> Any:
    """Return the smile network of the SMILEsmileD tutorials: (N, 1, 32, 32) grey, 0-1 -> (N, 2) softmax.

    Two convolutions of 32 filters 3x3, max pooling, dropout, a dense layer of 128, dropout, two classes.
    """
    keras = _channels_first()
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu", input_shape=(1, 32, 32), name="conv2d_1"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv2d_2"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Dropout(0.25, name="dropout_1"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(128, activation="relu", name="dense_1"),
            layers.Dropout(0.5, name="dropout_2"),
            layers.Dense(2, activation="softmax", name="dense_2"),
        ]
    )


def smile_network() -> Any:
    """Return the smile network: (N, 1, 64, 64) grey, 0-1 -> (N, 2) softmax.

    Eight convolutions 3x3 in four pairs, averaged over the picture, with 26 million multiplications per face: the first
    convolution has a stride of 2.
    """
    keras = _channels_first()
    layers = keras.layers
    network = keras.models.Sequential()
    for pair, filters in enumerate((24, 48, 96, 128)):
        first = {"strides": 2, "input_shape": (1, 64, 64)} if pair == 0 else {}
        network.add(_convolution(layers, filters, 2 * pair + 1, **first))
        network.add(_convolution(layers, filters, 2 * pair + 2))
        if pair < 3:
            network.add(layers.MaxPooling2D((2, 2), name=f"max_pooling2d_{pair + 1}"))
            network.add(layers.Dropout(0.1, name=f"dropout_{pair + 1}"))
    network.add(layers.GlobalAveragePooling2D(name="global_average_pooling2d_1"))
    network.add(layers.Dropout(0.4, name="dropout_4"))
    network.add(layers.Dense(2, activation="softmax", name="dense_1"))
    return network


def _convolution(layers: Any, filters: int, number: int, **more: Any) -> Any:
    return layers.Conv2D(filters, (3, 3), padding="same", activation="relu", name=f"conv2d_{number}", **more)


def dogcat_network() -> Any:
    """Return the network of the Keras blog's "image classification using very little data".

    It maps (N, 3, 150, 150) RGB, 0-1, to (N, 1), the probability of a dog.

    Three convolutions of 32, 32 and 64 filters 3x3, each with ReLU and max pooling; a dense layer of 64, dropout, one
    sigmoid. The blog has the channels last; MXNet is fast with the channels first, and the number of parameters is
    equal.

    :raises DimpleError: if the number of parameters differs from the blog's.
    """
    keras = _channels_first()
    layers = keras.layers
    network = keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu", input_shape=(3, 150, 150), name="conv2d_1"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv2d_2"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_2"),
            layers.Conv2D(64, (3, 3), activation="relu", name="conv2d_3"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_3"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(64, activation="relu", name="dense_1"),
            layers.Dropout(0.5, name="dropout_1"),
            layers.Dense(1, activation="sigmoid", name="dense_2"),
        ]
    )
    if network.count_params() != DOGCAT_PARAMETERS:
        raise DimpleError(f"the cat/dog network has {network.count_params()} parameters, not {DOGCAT_PARAMETERS}")
    return network


def _channels_first() -> Any:
    keras = import_keras()
    keras.backend.set_image_data_format("channels_first")
    return keras


@dataclass(frozen=True)
class DistillationOptions:
    """Options of distillation (Hinton et al. 2015, "Distilling the knowledge in a neural network").

    A larger network's probabilities for every training picture, to the power of 1/``temperature``, are targets in a
    part of the loss with the weight ``weight``.
    """

    temperature: float
    weight: float


@dataclass(frozen=True)
class FitOptions:
    """Options of a network's training.

    ``rate`` is the learning rate, constant or falling along half a cosine. ``mixup`` is the parameter of the beta
    distribution by which two pictures of a batch are blended (Zhang et al. 2017); 0 blends none. ``smoothing`` is the
    share of a label that is spread evenly over all classes. ``twin`` trains the network's normalised twin
    (:mod:`app.training.batchnorm_folding`), with ``dropout`` before its dense layers. ``weigh_classes`` gives a rare
    class the same weight as a frequent one; the outputs of such a network are not true probabilities if the classes are
    not equally frequent.
    """

    batch: int
    epochs: int
    rate: float
    optimizer: Literal["adam", "rmsprop"] = "adam"
    schedule: Literal["constant", "cosine"] = "cosine"
    augmentation: Augmentation | None = None
    mixup: float = 0
    smoothing: float = 0
    twin: bool = True
    dropout: float = 0
    weigh_classes: bool = False
    teaching: DistillationOptions | None = None


@dataclass(frozen=True)
class Recipe:
    """A complete recipe for a model. ``network`` builds the served network, ``checkpoint`` also writes it for MXNet."""

    name: str
    shape: tuple[int, ...]
    preprocess: Preprocess
    network: Callable[[], Any]
    fitting: FitOptions
    checkpoint: bool

    @property
    def input(self) -> str:
        """Return the key of its input among the prepared ones: ``64x64``."""
        return f"{self.shape[2]}x{self.shape[3]}"


@dataclass(frozen=True)
class TrainingTask:
    """A model that Dimple trains: the data set and the available recipes.

    ``folders`` maps the data set's folders to class numbers. ``published`` maps the labels to the numbers of pictures
    in the whole published set, if known. ``url`` is the download address, None if a program cannot download the set.
    ``test`` is the share of the pictures that training never sees; ``within`` is as in :class:`DataSpec`.
    """

    name: str
    title: str
    url: str | None
    labels: tuple[str, str]
    folders: Mapping[str, int]
    published: Mapping[str, int] | None
    test: float
    within: str
    recipes: Mapping[str, Recipe]

    @property
    def data(self) -> DataSpec:
        """Return the data set's specification, with the inputs of all recipes."""
        inputs = {recipe.input: (recipe.preprocess, recipe.shape) for recipe in self.recipes.values()}
        return DataSpec(self.name, self.folders, self.labels, inputs, self.test, self.published, self.within)


LOOK_GREY = Preprocess(color="grey", interpolation="bilinear", antialias=True, scale=1 / 255, faces=True)
LOOK_COLOUR = Preprocess(color="rgb", interpolation="bilinear", antialias=True, scale=1 / 255)

SMILE_TUTORIAL = Recipe(
    name="tutorial",
    shape=(0, 1, 32, 32),
    preprocess=LOOK_GREY,
    network=smile_tutorial_network,
    fitting=FitOptions(batch=128, epochs=25, rate=1e-3, schedule="constant", twin=False, weigh_classes=True),
    checkpoint=True,
)
SMILE_BEST = Recipe(
    name="best",
    shape=(0, 1, 64, 64),
    preprocess=LOOK_GREY,
    network=smile_network,
    fitting=FitOptions(
        batch=64,
        epochs=40,
        rate=2e-3,
        augmentation=Augmentation(
            zoom=0.12, stretch=0.06, shift=0.07, rotation=12, contrast=0.3, brightness=0.3, erase=0.3
        ),
        mixup=0.2,
        smoothing=0.1,
    ),
    checkpoint=True,
)
DOGCAT_TUTORIAL = Recipe(
    name="tutorial",
    shape=(0, 3, 150, 150),
    preprocess=LOOK_COLOUR,
    network=dogcat_network,
    fitting=FitOptions(
        batch=16,
        epochs=50,
        rate=1e-3,
        optimizer="rmsprop",
        schedule="constant",
        augmentation=Augmentation(zoom=0.2, stretch=0.2, shear=0.2),
        twin=False,
    ),
    checkpoint=False,
)
DOGCAT_BEST = Recipe(
    name="best",
    shape=(0, 3, 150, 150),
    preprocess=LOOK_COLOUR,
    network=dogcat_network,
    fitting=FitOptions(
        batch=32,
        epochs=110,
        rate=1.5e-3,
        augmentation=Augmentation(
            zoom=0.22, stretch=0.08, shift=0.1, rotation=12, shear=0.12, contrast=0.2, brightness=0.15, tint=0.08
        ),
        mixup=0.2,
        dropout=0.3,
        teaching=DistillationOptions(temperature=2, weight=0.3),
    ),
    checkpoint=False,
)
SMILE = TrainingTask(
    name="smile",
    title="SMILEsmileD",
    url="https://github.com/hromi/SMILEsmileD/archive/master.zip",
    labels=("non-smiling", "smiling"),
    folders={"negatives": 0, "positives": 1},
    published={"non-smiling": 9475, "smiling": 3690},
    test=0.1,
    within="",
    recipes={"tutorial": SMILE_TUTORIAL, "best": SMILE_BEST},
)
DOGCAT = TrainingTask(
    name="dogcat",
    title="dogs_and_cats",
    url=None,
    labels=("cat", "dog"),
    folders={"cats": 0, "dogs": 1},
    published=None,
    test=0.15,
    within="train",
    recipes={"tutorial": DOGCAT_TUTORIAL, "best": DOGCAT_BEST},
)
TRAINING_TASKS = {course.name: course for course in (SMILE, DOGCAT)}
