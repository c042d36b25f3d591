"""``dimple models import``: a model folder made from model files."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from flask.cli import with_appcontext

from app.cli.common import current_settings, first_labels, next_steps, report_errors
from app.formats.inference import BY_CALLER
from app.formats.pixels import describe_pixels
from app.types import Activation, Color, Layout, Resize

if TYPE_CHECKING:
    from app.formats.import_files import ImportFiles
    from app.serving.model import Model
    from app.serving.model_import import ImportPlan, Overrides
    from app.settings import Settings

PATH = click.Path(exists=True, path_type=Path)


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Parse numbers separated by commas; fractions such as ``1/255`` are allowed."""
    if text is None:
        return None
    try:
        return tuple(_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r} must be numbers with commas between them") from None


def _size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Parse height and width, ``224,224`` or ``224x224``; a single number sets both."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:[,x]([1-9]\d{0,4}))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r} must be height and width, such as 224,224")
    return int(match[1]), int(match[2] or match[1])


OPTIONS = (
    click.option("--name", default="", help="Name of the model.  [default: that of its files]"),
    click.option(
        "--input-size", "size", metavar="H,W", callback=_size, help="Height and width of the network's input."
    ),
    click.option("--layout", type=click.Choice(get_args(Layout)), help="Order of the axes of the input."),
    click.option("--color", type=click.Choice(get_args(Color)), help="Order of the color channels."),
    click.option("--resize", type=click.Choice(get_args(Resize)), help="How images are resized to the input."),
    click.option("--mean", metavar="NUMBERS", callback=_numbers, help="Mean of the scaled pixels, one or per channel."),
    click.option("--std", metavar="NUMBERS", callback=_numbers, help="Standard deviation of the scaled pixels."),
    click.option("--scale", metavar="NUMBER", callback=_numbers, help="Factor for the pixels (0-255), such as 1/255."),
    click.option(
        "--activation", type=click.Choice(get_args(Activation)), help="What turns the output into probabilities."
    ),
    click.option("--output", metavar="NAME", help="Output with the classes, if the network has several outputs."),
    click.option("--labels", type=PATH, help="File with one label per line, or a JSON list of labels."),
    click.option(
        "--keras-backend",
        type=click.Choice(["tensorflow", "theano"]),
        help="Backend with which a Keras 1 file was trained.",
    ),
    click.option("--to", type=click.Path(path_type=Path), help="Folder to write.  [default: models/NAME]"),
    click.option("--force", is_flag=True, help="Replace an existing folder."),
)
"""Options about the files of a model, common to the commands that import one."""


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add :data:`OPTIONS` to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command("import")
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=PATH)
@model_options
@with_appcontext
@report_errors
def import_command(
    paths: tuple[Path, ...], name: str, to: Path | None, force: bool, scale: tuple[float, ...] | None, **options: Any
) -> None:
    """Import model files.

    PATHS are the files of one model: symbol and params of an MXNet checkpoint, an .h5, a .keras or an .onnx file, and
    optionally labels and a signature.json. Everything that the files do not state is inferred and printed with the
    reason; the options override it. The model is tried on several images before its folder appears.
    """
    from app.serving.model_import import run_import

    settings = current_settings()
    plan, target = planned(settings, paths, name, to, force, scale, options)
    started = time.monotonic()
    model = run_import(plan, target, settings)
    for line in _report(plan, model, time.monotonic() - started):
        click.echo(line)
    for warning in model.warnings:
        click.echo(f"warning   {warning}", err=True)
    click.echo(f"\nThe model is in {target}. To correct an inference, edit its signature.json, or repeat with --force.")
    if target.absolute().parent == settings.models_dir:
        click.echo(next_steps(settings, target.name))


def planned(
    settings: Settings,
    paths: tuple[Path, ...],
    name: str,
    to: Path | None,
    force: bool,
    scale: tuple[float, ...] | None,
    options: dict[str, Any],
) -> tuple[ImportPlan, Path]:
    """Return the plan to import files with the values of :data:`OPTIONS`, and the folder to make, which is checked."""
    from app.formats.import_files import gather
    from app.serving.model_import import Overrides, check_target, default_name, plan_import

    files = gather(paths)
    target = to or settings.models_dir / (name or default_name(files))
    check_target(target, force)
    overrides = Overrides(scale=scale[0] if scale else None, **options)
    return plan_import(files, name or target.name, overrides), target


def _report(plan: ImportPlan, model: Model, seconds: float) -> Iterator[str]:
    """Yield lines with the found and inferred facts, each with its reason."""
    files, overrides, pixels, reasons = plan.files, plan.overrides, model.preprocess, plan.reasons(model)
    size = ", ".join(str(axis) if axis else "any" for axis in model.input.shape)
    lines = [
        ("files", ", ".join(file.name for file in _files(files)), ""),
        ("input", f"{model.input.name} ({size}), {pixels.layout}", reasons["input"]),
        ("pixels", describe_pixels(pixels), reasons["pixels"]),
        ("output", f"{len(model.labels):,} classes, activation {model.postprocess.activation}", reasons["output"]),
        ("labels", first_labels(model.labels), reasons["labels"]),
        ("answered", f"by {model.kind}, after {seconds:.1f} s", ""),
    ]
    if files.h5 is not None and (note := _backend_note(files, overrides)):
        lines.insert(2, ("backend", *note))
    for name, text, reason in lines:
        yield f"{name:<10}{text}" + (f"  ({reason})" if reason else "")


def _files(files: ImportFiles) -> list[Path]:
    listed = (files.symbol, files.params, files.h5, files.architecture, files.onnx, files.graph, files.signature)
    return [file for file in (*listed, files.labels) if file is not None]


def _backend_note(files: ImportFiles, overrides: Overrides) -> tuple[str, str] | None:
    from app.formats.keras_file import read_h5

    assert files.h5 is not None
    model = read_h5(files.h5, files.architecture)
    if not model.guessed:
        return None
    if overrides.keras_backend:
        return overrides.keras_backend, BY_CALLER
    return "theano" if model.theano else "tensorflow", "Keras 1 does not state it; --keras-backend does"


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)
