"""``flask models import``: a model folder, made of loose files."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.problems import tells_problems
from app.errors import ModelFormatError
from app.formats.folder import NAME, open_model_folder
from app.formats.place import place
from app.types import Activation, Color, Layout, Preprocess, Resize, Signature

if TYPE_CHECKING:
    from app.formats.guess import Guess
    from app.formats.loose import Loose
    from app.serving.model import Model
    from app.settings import Settings

PATH = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True)
class Wishes:
    """What somebody knows better than the guesses; None leaves a guess as it is."""

    size: tuple[int, int] | None
    layout: Layout | None
    color: Color | None
    resize: Resize | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    scale: float | None
    activation: Activation | None
    labels: Path | None
    keras_backend: str | None


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them; ``1/255`` is one, too."""
    if text is None:
        return None
    try:
        return tuple(_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r} must be numbers with commas between them") from None


def _size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Height and width, ``224,224`` or ``224x224``; one number stands for both."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[,x]([1-9]\d{0,4}))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} must be height and width, such as 224,224")
    return int(found[1]), int(found[2] or found[1])


@click.command("import")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=PATH)
@click.option("--name", default="", help="What the model is to be called; by default as its files are.")
@click.option("--input-size", "size", metavar="H,W", callback=_size, help="Height and width of the network's input.")
@click.option("--layout", type=click.Choice(get_args(Layout)), help="The order of its axes.")
@click.option("--color", type=click.Choice(get_args(Color)), help="The order of its channels.")
@click.option("--resize", type=click.Choice(get_args(Resize)), help="How pictures get that size.")
@click.option("--mean", metavar="NUMBERS", callback=_numbers, help="Subtracted from the scaled pixels.")
@click.option("--std", metavar="NUMBERS", callback=_numbers, help="What the difference is divided by.")
@click.option("--scale", metavar="NUMBER", callback=_numbers, help="What pixels, 0-255, are multiplied by: 1/255.")
@click.option("--activation", type=click.Choice(get_args(Activation)), help="What makes probabilities of its answer.")
@click.option("--labels", type=PATH, help="File with one label a line.")
@click.option(
    "--keras-backend",
    type=click.Choice(["tensorflow", "theano"]),
    help="Over what a file of Keras 1 was trained, which it does not say.",
)
@click.option("--to", type=click.Path(path_type=Path), help="The folder to be made; by default models/NAME.")
@click.option("--force", is_flag=True, help="Replace what is there under that name.")
@with_appcontext
@tells_problems
def import_command(
    paths: tuple[Path, ...], name: str, to: Path | None, force: bool, scale: tuple[float, ...] | None, **wished: Any
) -> None:
    """Make a model folder of loose files: a checkpoint's symbol and params, an .h5, an .onnx, labels, a signature.

    What PATH… leave open is guessed, and every guess is shown with its reason and can be overridden. The model answers
    once before its folder appears.
    """
    from app.formats.guess import guess
    from app.formats.loose import gather

    settings = _settings()
    wishes = Wishes(scale=scale[0] if scale else None, **wished)
    loose = gather(paths)
    target = to or settings.models_dir / (name or _called(loose))
    _check_target(target, force)
    guessed = guess(loose, wishes.size)
    signature = _as_wished(guessed.signature, wishes)
    started = time.monotonic()
    try:
        model = _make(loose, signature, _labels(loose, guessed, wishes), target, name or target.name, wishes, settings)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Make room, or let Dimple write there") from None
    for line in _report(loose, guessed, wishes, model, time.monotonic() - started):
        click.echo(line)
    click.echo(f"\n{target} is there. What was assumed can be corrected in its signature.json, or here with --force.")


def _make(
    loose: Loose,
    signature: Signature,
    labels: tuple[str, ...] | None,
    target: Path,
    name: str,
    wishes: Wishes,
    settings: Settings,
) -> Model:
    """Make the folder in hiding, let its model answer once, and put it in its place."""
    from app.formats.making import complete, make_folder, write_backend
    from app.serving.model import open_model

    target = target.absolute()
    hidden = target.parent / f".{uuid4().hex}.partial"
    made = hidden / target.name
    try:
        make_folder(loose, signature, labels, made, name)
        if wishes.keras_backend and loose.h5 is not None:
            write_backend(made / f"{name}.h5", wishes.keras_backend)
        model = open_model(open_model_folder(made), settings.engine, cache_dir=settings.cache)
        model.engine.close()
        complete(made, signature, model.labels)
        place(made, target)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return model


def _called(loose: Loose) -> str:
    """The files' own name, as far as a model may have it."""
    return re.sub(r"[^A-Za-z0-9_\-.]", "_", loose.stem).lstrip("_-.") or "model"


def _check_target(target: Path, force: bool) -> None:
    if not NAME.fullmatch(target.name):
        raise ModelFormatError(f"{target.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    if (target.exists() or target.is_symlink()) and not force:
        raise ModelFormatError(f"{target} is there already. Give another --name, or replace it with --force")


def _as_wished(signature: Signature, wishes: Wishes) -> Signature:
    """The signature, with what somebody knows better."""
    fields = ("layout", "color", "resize", "mean", "std", "scale")
    given = {name: value for name in fields if (value := getattr(wishes, name)) is not None}
    if 0.0 in given.get("std", ()):
        raise ModelFormatError("--std must not hold 0: the pixels are divided by it")
    if given.get("color") == "grey":
        given = {"mean": (0.0,), "std": (1.0,), **given} if len(signature.preprocess.mean) > 1 else given
    preprocess: Preprocess = replace(signature.preprocess, **given)
    shape = _shape(signature, preprocess, wishes.size)
    changed = replace(signature, inputs=(replace(signature.inputs[0], shape=shape),), preprocess=preprocess)
    if wishes.activation is None:
        return changed
    return replace(changed, postprocess=replace(signature.postprocess, activation=wishes.activation))


def _shape(signature: Signature, preprocess: Preprocess, size: tuple[int, int] | None) -> tuple[int, ...]:
    """The input's shape in the layout that is wanted now, of the size that is wanted."""
    shape = signature.inputs[0].shape
    if len(shape) != 4:
        raise ModelFormatError(f"the input {signature.inputs[0].name} has the shape {shape}; a picture has four axes")
    known = dict(zip(signature.preprocess.layout, shape, strict=True))
    if size is not None:
        known["H"], known["W"] = size
    return tuple(known[axis] for axis in preprocess.layout)


def _labels(loose: Loose, guessed: Guess, wishes: Wishes) -> tuple[str, ...] | None:
    file = wishes.labels or loose.labels
    if file is None:
        return guessed.labels
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{file} cannot be read as labels: {error}") from None
    return tuple(line for line in lines if line)


def _report(loose: Loose, guessed: Guess, wishes: Wishes, model: Model, seconds: float) -> Iterator[str]:
    """What was found and what was assumed, each with its reason."""
    size = ", ".join(str(one) if one else "any" for one in model.input.shape)
    pixels = model.preprocess
    by_hand = "you say so"
    told = [
        ("files", ", ".join(file.name for file in _files(loose)), ""),
        ("input", f"{model.input.name} ({size}), {pixels.layout}", by_hand if wishes.size else guessed.input_reason),
        (
            "pixels",
            f"{pixels.color}, {_resized(pixels)}, (pixel * {pixels.scale:.6g} - {_row(pixels.mean)}) / "
            f"{_row(pixels.std)}",
            by_hand if _pixels_wished(wishes) else guessed.pixels_reason,
        ),
        (
            "output",
            f"{len(model.labels):,} classes, activation {model.postprocess.activation}",
            by_hand if wishes.activation else guessed.output_reason,
        ),
        ("labels", _shortened(model.labels), _labels_reason(loose, guessed, wishes, len(model.labels))),
        ("answered", f"by {model.kind}, after {seconds:.1f} s", ""),
    ]
    if loose.h5 is not None and (note := _backend_note(loose, wishes)):
        told.insert(2, ("backend", *note))
    for name, text, reason in told:
        yield f"{name:<10}{text}" + (f"  ({reason})" if reason else "")


def _files(loose: Loose) -> list[Path]:
    listed = (loose.symbol, loose.params, loose.h5, loose.architecture, loose.onnx, loose.signature, loose.labels)
    return [file for file in listed if file is not None]


def _resized(pixels: Preprocess) -> str:
    return "stretched" if pixels.resize == "stretch" else "cropped at the centre"


def _pixels_wished(wishes: Wishes) -> bool:
    return any(value is not None for value in (wishes.color, wishes.resize, wishes.mean, wishes.std, wishes.scale))


def _labels_reason(loose: Loose, guessed: Guess, wishes: Wishes, count: int) -> str:
    if file := wishes.labels or loose.labels:
        return file.name
    if guessed.labels is not None:
        return "the file's metadata say so"
    return "ImageNet's, because there are 1,000" if count == 1000 else "numbered, because nothing names them"


def _backend_note(loose: Loose, wishes: Wishes) -> tuple[str, str] | None:
    from app.formats.keras_h5 import read_h5

    assert loose.h5 is not None
    model = read_h5(loose.h5, loose.architecture)
    if not model.guessed:
        return None
    if wishes.keras_backend:
        return wishes.keras_backend, "you say so"
    guess = "theano" if model.theano else "tensorflow"
    return guess, "Keras 1 does not say it; --keras-backend does"


def _row(values: tuple[float, ...]) -> str:
    return (
        ", ".join(f"{value:.6g}" for value in values)
        if len(values) == 1
        else f"[{', '.join(map('{:.6g}'.format, values))}]"
    )


def _shortened(labels: tuple[str, ...]) -> str:
    return "; ".join(labels[:3]) + ("; …" if len(labels) > 3 else "")


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["dimple"].settings
    return settings
