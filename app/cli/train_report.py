"""Reports on the networks that Dimple trains and ships."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image

from app.cli.predict import opened_model
from app.errors import DataError
from app.serving.model import Model
from app.serving.pipeline import answer, open_picture
from app.settings import Settings
from app.training.datasets import Part, load, read_all
from app.training.evaluation.metrics import compute_metrics
from app.training.evaluation.report import Item, table, write_report
from app.types import FloatArray

if TYPE_CHECKING:
    from app.training.recipes import TrainingTask

WIDTH = 28
MARK = "###"


def indicator(p: float, left_label: str, right_label: str) -> str:
    """Return a line that shows a probability between two labels.

    For example, ``non-smiling ------------------------###- smiling`` is 0.91. The line is divided into ``WIDTH`` equal
    cells. The middle of the mark is in the cell that holds ``p``, as far as the whole mark fits.

    :param p: probability of the class on the right, 0-1.
    """
    cell = math.floor(p * WIDTH)
    before = min(max(cell - len(MARK) // 2, 0), WIDTH - len(MARK))
    line = "-" * before + MARK + "-" * (WIDTH - len(MARK) - before)
    return f"{left_label} {line} {right_label}"


BATCH = 64


def judge_one(settings: Settings, course: TrainingTask, path: Path) -> None:
    """Print the tutorial's indicator line for one image, with faces found and classified as in the server."""
    with (
        opened_model(settings, course.name) as model,
        open_picture(path.read_bytes(), settings.picture_limits) as picture,
    ):
        result = answer(model, picture)
    right = next(prediction.probability for prediction in result.predictions if prediction.label == course.labels[1])
    click.echo(f"{indicator(right, *course.labels)}  {right:.4f}")
    if result.note:
        click.echo(result.note)


def report(settings: Settings, course: TrainingTask, data: Path | None) -> None:
    """Print the figures and write the report.

    :param data: zip or folder whose images are all measured; None uses the test set of the prepared data.
    :raises DataError: if there is no prepared data, or the images cannot be used.
    """
    with opened_model(settings, course.name) as model:
        if data is None:
            part = _test_part(settings, course, model)
        else:
            part = read_all(data, course.folders, model.preprocess, model.input.shape)
        rows = np.concatenate(
            [model.probabilities(part.pictures[i : i + BATCH]) for i in range(0, len(part.pictures), BATCH)]
        )
    metrics = compute_metrics(rows, part.classes, course.labels)
    items = [Item(name, _loader(pixels)) for name, pixels in zip(part.names, part.pictures, strict=True)]
    folder = settings.instance_dir / "reports" / course.name
    what = "the prepared test part" if data is None else data.name
    write_report(folder, metrics, rows, part.classes, items, {"model": course.name, "data": what})
    click.echo(f"{table(metrics)}\n\nThe report is in {folder}")


def _test_part(settings: Settings, course: TrainingTask, model: Model) -> Part:
    prepared = load(course.name, settings.instance_dir / "datasets")
    if prepared is None:
        raise DataError(f"No images are prepared. Run dimple {course.name} prepare first, or pass images with --data.")
    key = f"{model.input.shape[2]}x{model.input.shape[3]}"
    if key not in prepared.arrays:
        raise DataError(
            f"The model takes {key} pictures, which {course.name} prepare does not make. Give --data instead."
        )
    return prepared.part("test", key)


def _loader(pixels: FloatArray) -> Callable[[], Image.Image]:
    """Return a loader of the network's view of an image, whose pixels are (C, H, W) in 0-1."""
    return lambda: Image.fromarray(np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8).squeeze()).convert("RGB")
