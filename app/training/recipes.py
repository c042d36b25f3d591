"""What is trained, on what, and how: the smile network and the cat/dog network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.training.augment import Augmentation
from app.training.datasets import DataSpec
from app.training.networks import dogcat_network, smile_network, smile_tutorial_network
from app.types import Preprocess


@dataclass(frozen=True)
class Teaching:
    """A larger network tells what it sees in every training picture (Hinton et al. 2015, "Distilling the knowledge in
    a neural network"): its probabilities to the power of 1/``temperature``, in a part of the loss of ``weight``."""

    temperature: float
    weight: float


@dataclass(frozen=True)
class Fitting:
    """How a network is trained.

    ``rate`` is the learning rate, constant or falling along half a cosine. ``mixup`` is the parameter of the beta
    distribution by which two pictures of a batch are blended (Zhang et al. 2017); 0 blends none. ``smoothing`` is the
    share of a label that goes to all classes alike. ``twin`` trains the network's normalised twin (:mod:`.twin`),
    with ``dropout`` before its dense layers.
    ``weigh_classes`` lets a rare class count as much as a frequent one; the answers of a network so trained are no
    longer true probabilities where the classes are not equally frequent.
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
    teaching: Teaching | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model out of a data set. ``network`` builds what is served, ``checkpoint`` says that it
    is written for MXNet, too."""

    name: str
    shape: tuple[int, ...]
    preprocess: Preprocess
    network: Callable[[], Any]
    fitting: Fitting
    checkpoint: bool

    @property
    def input(self) -> str:
        """The key of its input among the prepared ones: ``64x64``."""
        return f"{self.shape[2]}x{self.shape[3]}"


@dataclass(frozen=True)
class Course:
    """A model that Dimple trains: the data set and the recipes to choose from.

    ``folders`` maps the data set's folders to class numbers, ``published`` the labels to the pictures in the whole
    published set, where that is known; ``url`` is where it is had, None where it cannot be had by a program. ``test``
    is the share of the pictures that training never sees; ``within`` is as in :class:`DataSpec`.
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
        """What is prepared of the data set: the inputs of all recipes."""
        inputs = {recipe.input: (recipe.preprocess, recipe.shape) for recipe in self.recipes.values()}
        return DataSpec(self.name, self.folders, self.labels, inputs, self.test, self.published, self.within)


LOOK_GREY = Preprocess(color="grey", interpolation="bilinear", antialias=True, scale=1 / 255, faces=True)
LOOK_COLOUR = Preprocess(color="rgb", interpolation="bilinear", antialias=True, scale=1 / 255)

SMILE_TUTORIAL = Recipe(
    name="tutorial",
    shape=(0, 1, 32, 32),
    preprocess=LOOK_GREY,
    network=smile_tutorial_network,
    fitting=Fitting(batch=128, epochs=25, rate=1e-3, schedule="constant", twin=False, weigh_classes=True),
    checkpoint=True,
)
SMILE_BEST = Recipe(
    name="best",
    shape=(0, 1, 64, 64),
    preprocess=LOOK_GREY,
    network=smile_network,
    fitting=Fitting(
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
    fitting=Fitting(
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
    fitting=Fitting(
        batch=32,
        epochs=110,
        rate=1.5e-3,
        augmentation=Augmentation(
            zoom=0.22, stretch=0.08, shift=0.1, rotation=12, shear=0.12, contrast=0.2, brightness=0.15, tint=0.08
        ),
        mixup=0.2,
        dropout=0.3,
        teaching=Teaching(temperature=2, weight=0.3),
    ),
    checkpoint=False,
)
SMILE = Course(
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
DOGCAT = Course(
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
COURSES = {course.name: course for course in (SMILE, DOGCAT)}
