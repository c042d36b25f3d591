"""``dimple smile`` and ``dimple dogcat``: prepare, train and evaluate the models that Dimple ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask.cli import AppGroup

from app.cli.common import current_settings, report_errors
from app.errors import DataError

if TYPE_CHECKING:
    from app.settings import Settings
    from app.training.datasets import Dataset
    from app.training.recipes import TrainingTask

SOURCE = click.option("--source", help="Zip or folder of the images, or the URL of a zip.")
RECIPE = click.option(
    "--recipe",
    type=click.Choice(["tutorial", "best"]),
    default="best",
    show_default=True,
    help="The recipe of the original tutorial, or the best known one.",
)
EPOCHS = click.option("--epochs", type=click.IntRange(1), help="Number of passes over the training images.")
SEED = click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Random seed.")
PREFIX = click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    help="Prefix of additional copies of the model files, as in smileCNN_model-symbol.json.",
)
RESUME = click.option("--resume", is_flag=True, help="Resume an interrupted run.")
DATA = click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Zip or folder of labelled images, or one image.  [default: the prepared test set]",
)


def task_group(name: str, about: str) -> AppGroup:
    """Return the group of commands for one of Dimple's own models."""
    group = AppGroup(name, help=about)

    @group.command("prepare")
    @SOURCE
    @report_errors
    def prepare(source: str | None) -> None:
        """Download and split the images.

        The result is written to instance/datasets/.
        """
        settings = current_settings()
        data = _data(_task(name), source, settings)
        click.echo(f"{settings.instance_dir / 'datasets' / name}: " + _parts(data))

    @group.command("train")
    @SOURCE
    @RECIPE
    @EPOCHS
    @SEED
    @RESUME
    @PREFIX
    @report_errors
    def train(
        source: str | None, recipe: str, epochs: int | None, seed: int, resume: bool, prefix: Path | None
    ) -> None:
        """Train the model.

        It is measured on held-out images, and written to the models folder.
        """
        if prefix is not None and not prefix.absolute().parent.is_dir():
            raise DataError(f"--prefix {prefix}: there is no folder {prefix.absolute().parent}. Create it first")
        from app.training.evaluation.report import table
        from app.training.run import Run, copy_under
        from app.training.run import train as run

        settings, course = current_settings(), _task(name)
        data = _data(course, source, settings)
        chosen = course.recipes[recipe]
        teacher = _teacher(settings) if chosen.fitting.teaching else None
        work_dir = settings.instance_dir / "training"
        folder, metrics = run(Run(course, chosen, epochs, seed, settings.models_dir, work_dir, teacher), data, resume)
        click.echo(f"\n{folder}, on images held out from training:\n{table(metrics)}")
        for path in copy_under(folder, prefix) if prefix is not None else ():
            click.echo(path)

    @group.command("evaluate")
    @DATA
    @report_errors
    def evaluate(data: Path | None) -> None:
        """Measure the model on labelled images.

        The figures are printed; curves and the worst mistakes are written to instance/reports/.
        """
        from app.cli.train_report import judge_one, report

        settings, course = current_settings(), _task(name)
        if data is not None and data.is_file() and data.suffix.lower() != ".zip":
            judge_one(settings, course, data)
        else:
            report(settings, course, data)

    return group


def _task(name: str) -> TrainingTask:
    from app.training.recipes import TRAINING_TASKS

    return TRAINING_TASKS[name]


def _data(course: TrainingTask, source: str | None, settings: Settings) -> Dataset:
    """Return the prepared images of ``source``, of an earlier preparation, or of the published dataset."""
    from app.training.datasets import load, prepare

    datasets_dir = settings.instance_dir / "datasets"
    ready = load(course.name, datasets_dir)
    if source is None and ready and set(ready.arrays) == set(course.data.inputs):
        return ready
    source = source or (ready.source if ready else course.url)
    if not source:
        raise DataError(f"No images: pass a zip or folder with {' and '.join(course.folders)} as --source.")
    return prepare(course.data, source, datasets_dir)


def _teacher(settings: Settings) -> Path:
    from app.zoo.imagenet import ensure_imagenet

    return ensure_imagenet(settings.models_dir)


def _parts(data: Dataset) -> str:
    return ", ".join(f"{data.parts.count(part):,} for {part}" for part in ("train", "validation", "test"))


smile_cli = task_group("smile", "Retrain the included smile model.")
dogcat_cli = task_group("dogcat", "Retrain the included cat/dog model.")
