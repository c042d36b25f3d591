"""``dimple models train``: a classifier trained on the user's images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.errors import tells_problems
from app.cli.running import next_steps
from app.settings import Settings

if TYPE_CHECKING:
    from app.training.evaluation.metrics import Figures
    from app.training.transfer.run import Trained

MOST_CLASSES = 25
"""Classes that are printed; of more, those of the least recall."""
MOST_CONFUSIONS = 5


@click.command("train")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--folds", type=click.IntRange(2, 50), default=5, help="Number of cross-validation folds.  [default: 5]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, help="Random seed of the folds.  [default: 1]")
@click.option("--force", is_flag=True, help="Replace a model NAME that another command made.")
@with_appcontext
@tells_problems
def train(name: str, folder: Path, folds: int, seed: int, force: bool) -> None:
    """Train a classifier on your images.

    FOLDER is a folder or zip with one folder of images for each class, with at least five images in each. The model is
    written to models/NAME. This is transfer learning: the features of the included imagenet model stay as they are, and
    a new last layer is fitted to your classes. Two thousand images take about a minute.
    """
    from app.training.transfer.run import Order, check_target
    from app.training.transfer.run import train as run
    from app.zoo.imagenet import ensure_imagenet

    settings: Settings = current_app.extensions["dimple"].settings
    check_target(name, settings.models_dir, force)
    body = ensure_imagenet(settings.models_dir)
    trained = run(Order(name, folder, body, settings.models_dir, folds, seed, force, settings.picture_limits))
    _report(trained)
    click.echo(next_steps(settings, name))


def _report(trained: Trained) -> None:
    found = trained.figures
    click.echo("\n".join(_table(found)))
    low, high = found.accuracy_interval
    click.echo(
        f"\naccuracy {found.accuracy:.4f} ± {trained.spread:.4f} in {len(trained.fold_accuracies)}-fold "
        f"cross-validation of {found.n:,} pictures (95 % interval {low:.4f} to {high:.4f})"
    )
    if trained.skipped:
        click.echo(f"skipped, because they could not be read: {len(trained.skipped):,}")
    for line in _confusions(found):
        click.echo(line)
    click.echo(f"\nThe model is in {trained.folder}; training took {trained.seconds:.0f} s.")


def _table(found: Figures) -> list[str]:
    """A line for each class: how many pictures, and the part of them that was called rightly."""
    shown = list(found.classes)
    if len(shown) > MOST_CLASSES:
        shown = sorted(shown, key=lambda one: one.recall or 0.0)[:MOST_CLASSES]
    width = max(len("class"), *(len(one.label) for one in shown))
    lines = [f"{'class':<{width}}  {'n':>6}  {'recall':>6}"]
    lines += [f"{one.label:<{width}}  {one.support:>6,}  {one.recall or 0.0:>6.4f}" for one in shown]
    if len(shown) < len(found.classes):
        lines.append(f"… and {len(found.classes) - len(shown):,} classes of a higher recall; metrics.json has them all")
    return lines


def _confusions(found: Figures) -> list[str]:
    """The mistakes that were made most often."""
    pairs = [
        (count, found.labels[true], found.labels[said])
        for true, row in enumerate(found.confusion)
        for said, count in enumerate(row)
        if count and true != said
    ]
    return [f"{true} called {said}: {count:,}" for count, true, said in sorted(pairs, reverse=True)[:MOST_CONFUSIONS]]
