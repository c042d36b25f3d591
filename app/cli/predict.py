"""``flask predict``: classification of files, folders and zips of images on all cores, with the server's code."""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, report_errors, table
from app.errors import DataError, DimpleError, EmptyFile, ModelNotFound
from app.formats.archive.manifest import NAME
from app.formats.folder import ModelFolder, is_model_folder, open_model_folder
from app.formats.pictures import PictureSource, open_pictures
from app.serving.model import Model, open_model
from app.serving.pipeline import answer, open_picture
from app.serving.serializers import answer_document
from app.settings import PictureLimits, Settings
from app.types import Answer
from app.utils.progress import echo, track
from app.utils.system import cpu_count

THREADS = cpu_count()
AHEAD = 4 * THREADS
"""Number of images that are started ahead; their results wait in memory."""


@dataclass(frozen=True)
class Item:
    """An image to classify: its name, and a function that reads its bytes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Failure:
    """An image or a path without a result, and the reason."""

    name: str
    reason: str


def find_model(settings: Settings, name: str) -> ModelFolder:
    """Find one model of the models folder.

    :raises ModelNotFound: if no model has that name.
    :raises ModelFormatError: if its files contradict each other.
    """
    from app.zoo import imagenet

    if name == imagenet.NAME:
        imagenet.ensure_imagenet(settings.models_dir)
    path = settings.models_dir / name
    if not NAME.fullmatch(name) or not is_model_folder(path):
        there = settings.models_dir.iterdir() if settings.models_dir.is_dir() else ()
        raise ModelNotFound(name, sorted({imagenet.NAME, *(path.name for path in there if is_model_folder(path))}))
    return open_model_folder(path)


@contextmanager
def opened_model(settings: Settings, name: str) -> Iterator[Model]:
    """Load one model of the models folder, and no other.

    :raises ModelNotFound: as :func:`find_model`.
    :raises ModelFormatError: if it cannot be loaded.
    """
    model = open_model(find_model(settings, name), settings.engine, cache_dir=settings.cache)
    try:
        yield model
    finally:
        model.engine.close()


def answers(
    model: Model, items: Iterable[Item], limits: PictureLimits, top: int | None
) -> Iterator[tuple[Item, Answer | Failure]]:
    """Classify images on all cores, and yield the results in the order of the images.

    :param top: as in :func:`app.serving.pipeline.answer`.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        begun: deque[tuple[Item, Any]] = deque()
        try:
            for item in items:
                begun.append((item, pool.submit(_answer, model, item, limits, top)))
                if len(begun) > AHEAD:
                    done, future = begun.popleft()
                    yield done, future.result()
            while begun:
                done, future = begun.popleft()
                yield done, future.result()
        finally:
            for _, future in begun:  # after an interruption, images that have not started are skipped
                future.cancel()


def _answer(model: Model, item: Item, limits: PictureLimits, top: int | None) -> Answer | Failure:
    try:
        data = item.read()
        if not data:
            raise EmptyFile(item.name)
        with open_picture(data, limits) as picture:
            return answer(model, picture, top)
    except OSError as error:
        return Failure(item.name, f"It cannot be read: {error.strerror or error}.")
    except DimpleError as error:
        return Failure(item.name, str(error))


@click.command("predict")
@click.argument("name", shell_complete=complete_model)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="Output format; jsonl is one JSON object per line, as in the server's responses.",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    help="Number of classes per image.  [default: 1; with jsonl, the setting of the model]",
)
@with_appcontext
@report_errors
def predict(name: str, paths: tuple[str, ...], form: str, top: int | None) -> None:
    """Classify images.

    PATHS are images, folders or zips, or - for an image on standard input. No server is needed. Images that cannot be
    read are listed last, on standard error, and the exit status is 1 then.
    """
    settings = current_settings()
    with ExitStack() as stack:
        items, failures = collect(paths, stack)
        model = stack.enter_context(opened_model(settings, name))
        top = 1 if top is None and form != "jsonl" else top
        results = answers(model, items, settings.picture_limits, top)
        failures += _write(form, _with_progress(results, len(items), form), model, top)
    if failures:
        echo(f"{len(failures):,} could not be classified:")
        for failure in failures:
            echo(f"{failure.name}: {failure.reason}")
        raise SystemExit(1)


def collect(paths: Iterable[str], stack: ExitStack) -> tuple[list[Item], list[Failure]]:
    """Find the images in files, folders and zips, and the paths without any.

    :param stack: stack that closes the zips after they have been read.
    """
    items: list[Item] = []
    failures: list[Failure] = []
    for path in paths:
        name = click.format_filename(path)  # printable, whatever bytes the path contains
        if path == "-":
            items.append(Item(name, sys.stdin.buffer.read))
        elif Path(path).is_dir() or path.lower().endswith(".zip"):
            try:
                items += _inside(name, stack.enter_context(open_pictures(Path(path))))
            except DataError as error:
                failures.append(Failure(name, str(error)))
        else:
            items.append(Item(name, Path(path).read_bytes))
    return items, failures


def _inside(name: str, source: PictureSource) -> list[Item]:
    if not source.pictures:
        raise DataError(
            "It holds no pictures: JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF files, known by their names' ends."
        )
    return [Item(f"{name.rstrip('/')}/{click.format_filename(p)}", partial(source.read, p)) for p in source.pictures]


def _with_progress(
    results: Iterator[tuple[Item, Answer | Failure]], total: int, form: str
) -> Iterator[tuple[Item, Answer | Failure]]:
    """Show the progress, except between results that scroll on the same terminal."""
    if form != "table" and sys.stdout.isatty():
        return results
    return track(results, "classified", total, "pictures")


def _write(form: str, results: Iterator[tuple[Item, Answer | Failure]], model: Model, top: int | None) -> list[Failure]:
    failures: list[Failure] = []
    good = _without_failures(results, failures)
    if form == "jsonl":
        for name, result in good:
            click.echo(json.dumps({"file": name, **answer_document(result)}, ensure_ascii=False))
    elif form == "csv":
        _write_csv(good, min(top or 1, len(model.labels)), model.preprocess.faces)
    else:
        _write_table(list(good), model.preprocess.faces)
    return failures


def _without_failures(
    results: Iterator[tuple[Item, Answer | Failure]], failures: list[Failure]
) -> Iterator[tuple[str, Answer]]:
    for item, result in results:
        if isinstance(result, Failure):
            failures.append(result)
        else:
            yield item.name, result


def _write_csv(good: Iterable[tuple[str, Answer]], top: int, faces: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    numbers = ["", *(str(rank) for rank in range(2, top + 1))]
    header = ["file", *(f"{column}{number}" for number in numbers for column in ("class", "probability"))]
    writer.writerow([*header, "faces"] if faces else header)
    for name, result in good:
        row = [
            name,
            *(
                cell
                for prediction in result.predictions
                for cell in (prediction.label, f"{prediction.probability:.6g}")
            ),
        ]
        writer.writerow([*row, _face_count(result)] if faces else row)
        sys.stdout.flush()


def _write_table(good: Sequence[tuple[str, Answer]], faces: bool) -> None:
    """Write one line for each class of each file; the first line also has the file's name and its faces."""
    if not good:
        return
    rows = [["file", "class", "probability", "faces"]]
    for name, result in good:
        for rank, prediction in enumerate(result.predictions):
            file, count = (name, _face_count(result)) if rank == 0 else ("", "")
            rows.append([file, prediction.label, f"{prediction.probability:.4f}", count])
    click.echo(table([row if faces else row[:3] for row in rows], right=(2, 3)))


def _face_count(result: Answer) -> str:
    """Return the number of faces as text; empty if the model does not look for faces."""
    return "" if result.faces is None else str(len(result.faces))
