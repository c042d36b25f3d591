"""Search for the preprocessing of a network with pictures: the plausible ways are tried and compared.

Labelled pictures give the accuracy and the likelihood of each way. Without labels, each picture is computed twice, the
second time shifted by a few pixels: the right way gives answers that are sure, differ between pictures, and stay the
same for the shifted picture. The bits that the two answers share measure all three at once (mutual information).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine
from app.errors import DataError, DimpleError
from app.serving.pipeline import open_picture
from app.serving.pixel_trials import (
    DEVIATIONS,
    Judge,
    Trial,
    arithmetic,
    arithmetics,
    distance,
    form,
    is_worse,
    resizings,
    sort_trials,
    with_arithmetic,
)
from app.settings import PictureLimits
from app.types import Preprocess, Signature
from app.utils.progress import echo, progress
from app.utils.system import cpu_count
from app.vision.faces import crop, find_faces, is_face_crop
from app.vision.preprocess import input_size, to_pixels

MOST = 200
"""The number of pictures from which more tell little."""
FEWEST = 8
BEST = 3
"""The largest number of ranges for which every way of resizing is tried."""


@dataclass(frozen=True)
class TrialPicture:
    """A picture: its name, a function that reads its bytes, and the number of its class (None if it is unknown)."""

    name: str
    read: Callable[[], bytes]
    truth: int | None = None


@dataclass(frozen=True)
class PixelSearch:
    """The result of a search. ``trials`` are sorted, the best first. ``tied`` are those that the pictures do not tell
    apart from the best, which is among them; ``chosen`` is the one of these that is nearest to what was inferred.

    ``pictures`` is the number of pictures, of ``classes`` classes (0 without labels).
    """

    trials: tuple[Trial, ...]
    chosen: Trial
    tied: tuple[Trial, ...]
    inferred: Preprocess
    pictures: int
    classes: int
    seconds: float

    @property
    def runner_up(self) -> Trial | None:
        """Return the best trial with other values of the pixels than the chosen one; None if there is none."""
        own = arithmetic(self.chosen.preprocess)
        return next((trial for trial in self.trials if arithmetic(trial.preprocess) != own), None)

    @property
    def is_better_than_chance(self) -> bool:
        """Return whether the best accuracy is more than guessing explains; true without labels if bits are shared."""
        if not self.classes:
            return self.trials[0].score > 0.1
        best, chance = self.trials[0].score, 1 / max(2, self.classes)
        return best - chance > DEVIATIONS * math.sqrt(chance * (1 - chance) / self.pictures)


def search(
    engine: Engine, signature: Signature, pictures: Sequence[TrialPicture], limits: PictureLimits
) -> PixelSearch:
    """Try the plausible preprocessings of a network.

    :param signature: the network's input, and the inferred preprocessing with which the search begins.
    :param pictures: at most :data:`MOST` are enough; all have a class, or none.
    :raises DataError: if fewer than :data:`FEWEST` pictures can be read.
    :raises ModelFormatError: if the input is not a picture.
    """
    started, inferred, shape = time.monotonic(), signature.preprocess, signature.inputs[0].shape
    ways = resizings(inferred, shape)
    with tempfile.TemporaryDirectory() as work, progress("pixels", None, "trials") as bar:
        store, readable = _read(pictures, ways, shape, limits, Path(work) / "pixels")
        used = [picture for picture, ok in zip(pictures, readable, strict=False) if ok]
        truth = np.array([picture.truth for picture in used], np.int64) if used[0].truth is not None else None
        judge = Judge(engine, signature, truth)

        def trial(way: int, values: Preprocess) -> Trial:
            bar.advance()
            return judge.trial(store[way][readable], with_arithmetic(ways[way], values))

        first = sort_trials([trial(0, values) for values in arithmetics(inferred)])
        promising = [item for item in first if not is_worse(first[0], item)][:BEST]
        others = [trial(way, item.preprocess) for item in promising for way in range(1, len(ways))]
        trials = sort_trials([*first, *others])
    tied = [trial for trial in trials if not is_worse(trials[0], trial)]
    chosen = min(tied, key=lambda trial: (distance(trial.preprocess, inferred), trials.index(trial)))
    classes = len(set(truth.tolist())) if truth is not None else 0
    return PixelSearch(tuple(trials), chosen, tuple(tied), inferred, len(used), classes, time.monotonic() - started)


def _read(
    pictures: Sequence[TrialPicture], ways: list[Preprocess], shape: tuple[int, ...], limits: PictureLimits, file: Path
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decode every picture once and resize it in every way.

    :param file: file for the pixels, which may take hundreds of megabytes.
    :returns: (ways, N, H, W, C), and whether each picture could be read (N,).
    """
    height, width = input_size(ways[0], shape)
    channels = 1 if ways[0].color == "grey" else 3
    store = np.memmap(file, np.uint8, "w+", shape=(len(ways), len(pictures), height, width, channels))

    def resize(number: int) -> bool:
        try:
            with open_picture(pictures[number].read(), limits) as picture:
                image = picture.image
                if ways[0].faces and not is_face_crop(image, shape) and (boxes := find_faces(image, 1)):
                    image = crop(image, boxes[0])
                for place, way in enumerate(ways):
                    store[place, number] = to_pixels(image, way, shape)
        except DimpleError as error:
            echo(f"skipped: {pictures[number].name}: {error}")
            return False
        return True

    with ThreadPoolExecutor(cpu_count()) as pool:
        readable = np.array(list(pool.map(resize, range(len(pictures)))), bool)
    if readable.sum() < FEWEST:
        raise DataError(
            f"{readable.sum()} pictures can be read, but at least {FEWEST} are compared; 20 to 200 are good"
        )
    return store, readable


def lines_of(result: PixelSearch, most: int = 8) -> Iterator[str]:
    """Yield the best trials, the choice and its margin as lines of text."""
    chosen, other = result.chosen, result.runner_up
    kind = f"of {result.classes} classes" if result.classes else "without labels"
    yield f"{result.pictures} pictures {kind}, {len(result.trials)} ways, {result.seconds:.0f} s"
    columns = ("right", "likely") if result.classes else ("bits", "stable")
    yield "".join(f"{column:>7}  " for column in (*columns, "sure")) + "pixels"
    listed = [*result.trials[:most], *([chosen] if chosen not in result.trials[:most] else [])]
    listed += [other] if other is not None and other not in listed else []
    for trial in listed:
        mark = "  <- chosen" if trial is chosen else ""
        yield f"{_score(trial, result)}  {trial.confidence:7.1%}  {trial.name}{mark}"
    yield verdict(result)


def _score(trial: Trial, result: PixelSearch) -> str:
    if result.classes:
        return f"{trial.score:7.1%}  {math.exp(trial.likelihood):7.1%}"
    return f"{trial.score:7.2f}  {trial.stability or 0:7.1%}"


def summary(result: PixelSearch) -> str:
    """Return the outcome for the chosen way in a few words."""
    if result.classes:
        return f"{result.chosen.score:.1%} of {result.pictures} are right"
    return f"{result.pictures} of them share {result.chosen.score:.2f} bits with their shifted copies"


def verdict(result: PixelSearch) -> str:
    """Return the margin of the choice, and what cannot be told apart from it, in one sentence each."""
    chosen, other = result.chosen, result.runner_up
    own = [trial for trial in result.tied if arithmetic(trial.preprocess) != arithmetic(chosen.preprocess)]
    text = []
    if own:
        more = ": take more pictures" if result.pictures < MOST else f", even by {result.pictures} pictures"
        text.append(f"The values of the pixels cannot be told apart from {own[0].name}{more}.")
    elif other is not None:
        text.append(f"The values are better than the next, {other.name}, by {_margin(chosen, other, result)}.")
    forms = {form(trial.preprocess) for trial in result.tied} - {form(chosen.preprocess)}
    if forms:
        stays = ", so the inferred one stays" if form(chosen.preprocess) == form(result.inferred) else ""
        text.append(f"The resizing cannot be told apart from {len(forms)} other ways{stays}.")
    if not result.is_better_than_chance:
        text.append("Even the best is no better than guessing: the labels, or the pictures, are not the network's.")
    return " ".join(text)


def _margin(chosen: Trial, other: Trial, result: PixelSearch) -> str:
    if not result.classes:
        return f"{chosen.score - other.score:.2f} bits"
    likelier = math.exp(chosen.likelihood - other.likelihood)
    return f"{100 * (chosen.score - other.score):.1f} points of accuracy, and {likelier:.2f} times likelier answers"
