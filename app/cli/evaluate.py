"""``dimple models evaluate``: the accuracy of a model on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, report_errors
from app.cli.predict import Failure, Item, answers, opened_model
from app.errors import DataError, ModelFormatError, SettingError
from app.formats.pictures import PictureSource, by_class, open_pictures
from app.serving.model import Model
from app.serving.pipeline import open_picture
from app.settings import PictureLimits, Settings
from app.types import Answer, FloatArray
from app.utils.progress import echo, track

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from app.training.evaluation.metrics import Metrics


@dataclass(frozen=True)
class Judgement:
    """Predictions for the readable images: names, probabilities (N, K) and true classes (N,)."""

    names: tuple[str, ...]
    probabilities: FloatArray
    truth: NDArray[np.int64]
    skipped: int


@click.command("evaluate")
@click.argument("name", shell_complete=complete_model)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--classes",
    multiple=True,
    metavar="FOLDER=LABEL",
    help="Class of the images in a folder, if its name differs from the label. Repeatable.",
)
@with_appcontext
@report_errors
def evaluate(name: str, folder: Path, classes: tuple[str, ...]) -> None:
    """Measure accuracy on labelled images.

    FOLDER is a folder or zip with one folder of images for each class of the model NAME. The figures are printed, and
    written to instance/reports/NAME/ with the curves and the worst mistakes as images.
    """
    from app.formats.classes import match_classes
    from app.training.evaluation.metrics import compute_metrics
    from app.training.evaluation.report import table

    settings = current_settings()
    stated = _parse_classes(classes)
    with open_pictures(folder) as source:
        names = by_class(source)
        with opened_model(settings, name) as model:
            columns = _columns(model)
            numbers = match_classes(names, model.labels, stated)
            truth = {picture: numbers[label] for label, pictures in names.items() for picture in pictures}
            judged = _judge(model, source, truth, columns, settings.picture_limits)
        metrics = compute_metrics(judged.probabilities, judged.truth, model.labels)
        click.echo(table(metrics))
        facts = {"model": model.name, "version": model.version, "data": folder.name, "skipped": judged.skipped}
        report = _report(settings, source, judged, metrics, facts)
    click.echo(f"\nThe report is in {report}")


def _parse_classes(classes: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in classes]
    for text, (folder, _, label) in zip(classes, pairs, strict=True):
        if not folder or not label:
            raise click.BadParameter(f"{text!r} is not of the form FOLDER=LABEL", param_hint="--classes")
    return {folder: label for folder, _, label in pairs}


def _columns(model: Model) -> dict[str, int]:
    """Return a map of labels to class indices; predictions identify classes by their labels alone.

    :raises ModelFormatError: if two labels are the same.
    """
    columns = {label: index for index, label in enumerate(model.labels)}
    if len(columns) < len(model.labels):
        raise ModelFormatError(f"{model.name}: two of its labels are the same; make them differ in its synset.txt")
    return columns


def _judge(
    model: Model, source: PictureSource, truth: dict[str, int], columns: dict[str, int], limits: PictureLimits
) -> Judgement:
    """Classify every image as the server does, and print the names of unreadable images.

    :param truth: map of images to class indices.
    :param columns: map of labels to class indices.
    :raises DataError: if no image could be read.
    """
    items = [Item(picture, partial(source.read, picture)) for picture in truth]
    names, rows, skipped = [], [], 0
    for item, result in track(answers(model, items, limits, 0), "evaluated", len(items), "pictures"):
        if isinstance(result, Failure):
            skipped += 1
            echo(f"skipped: {result.name}: {result.reason}")
        else:
            names.append(item.name)
            rows.append(_row(result, columns))
    if skipped:
        echo(f"{skipped:,} of {len(items):,} pictures were skipped")
    if not rows:
        raise DataError(f"{source.path}: none of its {len(items):,} pictures could be evaluated.")
    return Judgement(tuple(names), np.stack(rows), np.array([truth[name] for name in names]), skipped)


def _row(answer: Answer, columns: dict[str, int]) -> FloatArray:
    row = np.zeros(len(columns), np.float32)
    for prediction in answer.predictions:
        row[columns[prediction.label]] = prediction.probability
    return row


def _report(
    settings: Settings, source: PictureSource, judged: Judgement, metrics: Metrics, facts: dict[str, Any]
) -> Path:
    from app.training.evaluation import plots, report

    folder = settings.instance_dir / "reports" / str(facts["model"])
    items = [report.Item(name, _loader(source, name, settings.picture_limits)) for name in judged.names]
    try:
        plots.keep_config_in(settings.instance_dir / "matplotlib")
        report.write_report(folder, metrics, judged.probabilities, judged.truth, items, facts)
    except OSError as error:
        expected = f"a folder that can be written to ({error.strerror or error})"
        raise SettingError("DIMPLE_INSTANCE_DIR", settings.instance_dir, expected) from None
    return folder


def _loader(source: PictureSource, name: str, limits: PictureLimits) -> Callable[[], Image.Image]:
    def load() -> Image.Image:
        with open_picture(source.read(name), limits) as picture:
            return picture.image

    return load
