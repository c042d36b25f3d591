"""``dimple models train``: a classifier trained on the user's images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from app.cli.common import current_settings, next_steps, report_errors
from app.cli.predict import Item, answers, opened_model
from app.errors import DimpleError
from app.types import Answer
from app.utils.progress import echo, track

if TYPE_CHECKING:
    from app.settings import Settings
    from app.training.evaluation.metrics import Metrics
    from app.training.transfer.held_out import HeldOut
    from app.training.transfer.run import TransferResult

PATH = click.Path(path_type=Path)
MOST_CLASSES = 25
"""Maximum number of classes to print; with more, those with the lowest recall."""
MOST_CONFUSIONS = 5


@click.command("train")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--folds", type=click.IntRange(2, 50), default=5, help="Number of cross-validation folds.  [default: 5]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, help="Random seed of the folds.  [default: 1]")
@click.option("--force", is_flag=True, help="Replace a model NAME that another command made.")
@click.option("--output", type=PATH, help="Folder for the model's folder.  [default: the models folder]")
@click.option("--predictions", type=PATH, help="File for the held-out prediction of every image, as JSON.")
@click.option("--earlier", type=PATH, help="Such a file of an earlier training, to compare on the same images.")
@click.option("--against", metavar="MODEL", help="Another model to compare with on the same images.")
@click.option("--progress", type=PATH, help="File that always holds the current progress, as JSON.")
@with_appcontext
@report_errors
def train(
    name: str,
    folder: Path,
    folds: int,
    seed: int,
    force: bool,
    output: Path | None,
    predictions: Path | None,
    earlier: Path | None,
    against: str | None,
    progress: Path | None,
) -> None:
    """Train a classifier on your images.

    FOLDER is a folder or zip with one folder of images for each class, with at least five images in each. The model is
    written to models/NAME. This is transfer learning: the features of the included imagenet model stay as they are, and
    a new last layer is fitted to your classes. Two thousand images take about a minute.
    """
    from app.training.transfer.held_out import read_names, write_predictions
    from app.training.transfer.run import TransferJob, check_target
    from app.training.transfer.run import train as run
    from app.utils.progress import record_progress, step
    from app.zoo.imagenet import ensure_imagenet

    if progress:
        record_progress(progress)
    step("preparing")
    settings = current_settings()
    models_dir, limits = output or settings.models_dir, settings.picture_limits
    check_target(name, models_dir, force)
    known = read_names(earlier) if earlier else frozenset()
    body = ensure_imagenet(settings.models_dir)
    trained = run(TransferJob(name, folder, body, models_dir, folds, seed, force, limits, known))
    held_out = trained.held_out
    if against and held_out.earlier is None:
        held_out = _compared(held_out, against, folder, settings)
    if predictions:
        write_predictions(held_out, predictions)
    _convert(trained.folder, settings)
    step("finished")
    _report(trained)
    if output is None:
        click.echo(next_steps(settings, name))


def _compared(held_out: HeldOut, name: str, folder: Path, settings: Settings) -> HeldOut:
    """Add the classes that another model predicts for the same images. An unreadable model is reported and left out."""
    import numpy as np

    from app.formats.pictures import open_pictures
    from app.serving.feedback import folder_name

    numbers = {label: number for number, label in enumerate(held_out.labels)}
    classes = np.full(len(held_out.names), -1)
    try:
        with opened_model(settings, name) as model, open_pictures(folder) as source:
            items = [Item(picture, partial(source.read, picture)) for picture in held_out.names]
            results = track(answers(model, items, settings.picture_limits, 1), "comparison", len(items), "pictures")
            for place, (_, result) in enumerate(results):
                if isinstance(result, Answer):
                    classes[place] = numbers.get(folder_name(result.predictions[0].label), -1)
    except DimpleError as error:
        echo(f"no comparison with {name}: {error}")
        return held_out
    return replace(held_out, earlier=classes, rival=name)


def _convert(folder: Path, settings: Settings) -> None:
    """Convert the model for serving, so that it answers as soon as it is registered."""
    from app.engines.loader import load
    from app.formats.folder import open_model_folder
    from app.utils.progress import step

    step("converting the model for serving")
    load(open_model_folder(folder), settings.engine, settings.cache).engine.close()


def _report(trained: TransferResult) -> None:
    metrics = trained.figures
    click.echo("\n".join(_table(metrics)))
    low, high = metrics.accuracy_interval
    click.echo(
        f"\naccuracy {metrics.accuracy:.4f} ± {trained.spread:.4f} in {len(trained.fold_accuracies)}-fold "
        f"cross-validation of {metrics.n:,} pictures (95 % interval {low:.4f} to {high:.4f})"
    )
    if trained.skipped:
        click.echo(f"skipped, because they could not be read: {len(trained.skipped):,}")
    for line in _confusions(metrics):
        click.echo(line)
    click.echo(f"\nThe model is in {trained.folder}; training took {trained.seconds:.0f} s.")


def _table(metrics: Metrics) -> list[str]:
    """Return one line for each class with its number of images and its recall."""
    classes = list(metrics.classes)
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda item: item.recall or 0.0)[:MOST_CLASSES]
    width = max(len("class"), *(len(item.label) for item in classes))
    lines = [f"{'class':<{width}}  {'n':>6}  {'recall':>6}"]
    lines += [f"{item.label:<{width}}  {item.support:>6,}  {item.recall or 0.0:>6.4f}" for item in classes]
    if len(classes) < len(metrics.classes):
        lines.append(
            f"… and {len(metrics.classes) - len(classes):,} classes of a higher recall; metrics.json has them all"
        )
    return lines


def _confusions(metrics: Metrics) -> list[str]:
    """Return the most frequent mistakes."""
    pairs = [
        (count, metrics.labels[true], metrics.labels[predicted])
        for true, row in enumerate(metrics.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return [
        f"{true} called {predicted}: {count:,}"
        for count, true, predicted in sorted(pairs, reverse=True)[:MOST_CONFUSIONS]
    ]
