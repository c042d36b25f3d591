"""``dimple models import``: a model folder made from model files."""

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
from flask.cli import with_appcontext

from app.cli.errors import report_errors
from app.cli.running import current_settings, next_steps
from app.errors import ModelFormatError
from app.formats.archive.manifest import NAME
from app.formats.folder import open_model_folder
from app.formats.inference import BY_CALLER
from app.formats.signature import FILE_NAME
from app.types import Activation, Color, Layout, Preprocess, Resize, Signature
from app.utils.files import swap_folder

if TYPE_CHECKING:
    from app.formats.folder import ModelFolder
    from app.formats.import_files import ImportFiles
    from app.formats.inference import Inference
    from app.serving.model import Model
    from app.settings import Settings

PATH = click.Path(exists=True, path_type=Path)
RESIZED = {
    "stretch": "stretched",
    "crop": "cropped at the centre",
    "fit": "the centre of the input's aspect",
}


@dataclass(frozen=True)
class Overrides:
    """Options that override inferred values; None keeps the inferred value."""

    size: tuple[int, int] | None
    layout: Layout | None
    color: Color | None
    resize: Resize | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    scale: float | None
    activation: Activation | None
    output: str | None
    labels: Path | None
    keras_backend: str | None


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


@click.command("import")
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=PATH)
@click.option("--name", default="", help="Name of the model.  [default: that of its files]")
@click.option("--input-size", "size", metavar="H,W", callback=_size, help="Height and width of the network's input.")
@click.option("--layout", type=click.Choice(get_args(Layout)), help="Order of the axes of the input.")
@click.option("--color", type=click.Choice(get_args(Color)), help="Order of the color channels.")
@click.option("--resize", type=click.Choice(get_args(Resize)), help="How images are resized to the input.")
@click.option(
    "--mean",
    metavar="NUMBERS",
    callback=_numbers,
    help="Mean of the scaled pixels, one or per channel.",
)
@click.option("--std", metavar="NUMBERS", callback=_numbers, help="Standard deviation of the scaled pixels.")
@click.option("--scale", metavar="NUMBER", callback=_numbers, help="Factor for the pixels (0-255), such as 1/255.")
@click.option("--activation", type=click.Choice(get_args(Activation)), help="What turns the output into probabilities.")
@click.option("--output", metavar="NAME", help="Output with the classes, if the network has several outputs.")
@click.option("--labels", type=PATH, help="File with one label per line, or a JSON list of labels.")
@click.option(
    "--keras-backend",
    type=click.Choice(["tensorflow", "theano"]),
    help="Backend with which a Keras 1 file was trained.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write.  [default: models/NAME]")
@click.option("--force", is_flag=True, help="Replace an existing folder.")
@with_appcontext
@report_errors
def import_command(
    paths: tuple[Path, ...], name: str, to: Path | None, force: bool, scale: tuple[float, ...] | None, **options: Any
) -> None:
    """Import model files.

    PATHS are the files of one model: symbol and params of an MXNet checkpoint, an .h5 or an .onnx file, and optionally
    labels and a signature.json. Everything that the files do not state is inferred and printed with the reason; the
    options override it. The model is tried on several images before its folder appears.
    """
    from app.formats.import_files import gather
    from app.formats.infer_signature import infer_folder
    from app.formats.labels import read_labels

    settings = current_settings()
    overrides = Overrides(scale=scale[0] if scale else None, **options)
    files = gather(paths)
    target = to or settings.models_dir / (name or _default_name(files))
    _check_target(target, force)
    label_file = overrides.labels or files.labels
    labels = read_labels(label_file) if label_file is not None else None
    described = _draft_folder(files, labels, name or target.name)
    inference = infer_folder(described, size=overrides.size, output=overrides.output or "")
    inference = _overridden(inference, overrides)
    started = time.monotonic()
    try:
        model = _make(files, inference, labels, target, name or target.name, overrides, settings)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Make room, or let Dimple write there") from None
    for line in _report(files, inference, overrides, model, time.monotonic() - started):
        click.echo(line)
    for warning in model.warnings:
        click.echo(f"warning   {warning}", err=True)
    click.echo(f"\nThe model is in {target}. To correct an inference, edit its signature.json, or repeat with --force.")
    if target.absolute().parent == settings.models_dir:
        click.echo(next_steps(settings, target.name))


def _draft_folder(files: ImportFiles, labels: tuple[str, ...] | None, name: str) -> ModelFolder:
    """Return the files as a model folder that is not written yet."""
    from app.formats.folder import Checkpoint, ModelFolder
    from app.formats.signature import read_stated

    checkpoint = Checkpoint(files.symbol, files.params) if files.symbol and files.params else None
    signature, stated = read_stated(files.signature) if files.signature is not None else (None, frozenset())
    return ModelFolder(
        path=files.weights.parent,
        name=name,
        version="1.0",
        signature=signature,
        labels=labels,
        checkpoint=checkpoint,
        h5=files.h5,
        onnx=files.onnx,
        architecture=files.architecture,
        stated=stated,
    )


def _make(
    files: ImportFiles,
    inference: Inference,
    labels: tuple[str, ...] | None,
    target: Path,
    name: str,
    overrides: Overrides,
    settings: Settings,
) -> Model:
    """Create the folder under a hidden name, test the model, and rename the folder."""
    from app.formats.import_files import make_folder, write_backend
    from app.formats.labels import write_labels
    from app.formats.signature import PARTS, write_signature
    from app.serving.model import open_model

    target = target.absolute()
    hidden = target.parent / f".{uuid4().hex}.partial"
    made = hidden / target.name
    signature, known = inference.signature, labels if labels is not None else inference.labels
    parts = PARTS if inference.settled else PARTS - {"postprocess"}
    try:
        make_folder(files, signature, known, made, name, parts)
        if overrides.keras_backend and files.h5 is not None:
            write_backend(made / f"{name}.h5", overrides.keras_backend)
        model = open_model(open_model_folder(made), settings.engine, cache_dir=settings.cache)
        model.engine.close()
        final = replace(signature, outputs=(model.output,), postprocess=model.postprocess)
        write_signature(final, made / FILE_NAME)
        write_labels(made, model.labels)
        swap_folder(made, target)
    except ModelFormatError as error:
        raise ModelFormatError(_with_sources(str(error), made, name, files, overrides.labels)) from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return model


def _with_sources(text: str, made: Path, name: str, files: ImportFiles, labels: Path | None) -> str:
    """Return the text of an error with the user's files in place of their temporary copies."""
    from app.formats.labels import SYNSET

    copies = {
        f"{name}-symbol.json": files.symbol,
        f"{name}-0000.params": files.params,
        f"{name}.h5": files.h5,
        f"{name}.onnx": files.onnx,
        "model.json": files.architecture,
        FILE_NAME: files.signature,
    }
    for copy, source in copies.items():
        if source is not None:
            text = text.replace(str(made / copy), str(source))
    text = text.replace(str(made), str(files.weights))
    label_file = labels or files.labels
    return text.replace(SYNSET, str(label_file) if label_file else "its metadata")


def _default_name(files: ImportFiles) -> str:
    """Return the name of the files, converted to a valid model name."""
    return re.sub(r"[^A-Za-z0-9_\-.]", "_", files.stem).lstrip("_-.") or "model"


def _check_target(target: Path, force: bool) -> None:
    if not NAME.fullmatch(target.name):
        raise ModelFormatError(f"{target.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    if (target.exists() or target.is_symlink()) and not force:
        raise ModelFormatError(f"{target} is there already. Give another --name, or replace it with --force")


def _overridden(inference: Inference, overrides: Overrides) -> Inference:
    """Return the inference with the values of the options."""
    signature, reasons = inference.signature, dict(inference.reasons)
    fields = ("layout", "color", "resize", "mean", "std", "scale")
    stated = {name: value for name in fields if (value := getattr(overrides, name)) is not None}
    if 0.0 in stated.get("std", ()):
        raise ModelFormatError("--std must not hold 0: the pixels are divided by it")
    if stated.get("color") == "grey" and len(signature.preprocess.mean) > 1:
        stated = {"mean": (0.0,), "std": (1.0,), **stated}
    preprocess: Preprocess = replace(signature.preprocess, **stated)
    shape = _shape(signature, preprocess, overrides.size)
    signature = replace(signature, inputs=(replace(signature.inputs[0], shape=shape),), preprocess=preprocess)
    if stated.keys() - {"layout"}:
        reasons["pixels"] = BY_CALLER
    if overrides.size is not None:
        reasons["input"] = BY_CALLER
    if overrides.activation is None:
        return replace(inference, signature=signature, reasons=reasons)
    postprocess = replace(signature.postprocess, activation=overrides.activation)
    signature = replace(signature, postprocess=postprocess)
    return replace(inference, signature=signature, reasons={**reasons, "output": BY_CALLER}, settled=True)


def _shape(signature: Signature, preprocess: Preprocess, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return the input's shape in the layout and size of the options."""
    shape = signature.inputs[0].shape
    if len(shape) not in (3, 4):
        raise ModelFormatError(f"the input {signature.inputs[0].name} has the shape {shape}; a picture has four axes")
    before, after = (signature.preprocess.layout, preprocess.layout) if len(shape) == 4 else ("NHW", "NHW")
    known = dict(zip(before, shape, strict=True))
    if size is not None:
        known["H"], known["W"] = size
    return tuple(known[axis] for axis in after)


def _report(
    files: ImportFiles, inference: Inference, overrides: Overrides, model: Model, seconds: float
) -> Iterator[str]:
    """Yield lines with the found and inferred facts, each with its reason."""
    size = ", ".join(str(axis) if axis else "any" for axis in model.input.shape)
    pixels, reasons = model.preprocess, dict(inference.reasons)
    if model.postprocess.activation != inference.signature.postprocess.activation:
        reasons["output"] = model.reasons["output"]
    lines = [
        ("files", ", ".join(file.name for file in _files(files)), ""),
        ("input", f"{model.input.name} ({size}), {pixels.layout}", reasons["input"]),
        (
            "pixels",
            f"{pixels.color}, {RESIZED[pixels.resize]}, (pixel * {pixels.scale:.6g} - {_row(pixels.mean)}) / "
            f"{_row(pixels.std)}",
            reasons["pixels"],
        ),
        (
            "output",
            f"{len(model.labels):,} classes, activation {model.postprocess.activation}",
            reasons["output"],
        ),
        ("labels", _abbreviate(model.labels), _labels_reason(files, inference, overrides, len(model.labels))),
        ("answered", f"by {model.kind}, after {seconds:.1f} s", ""),
    ]
    if files.h5 is not None and (note := _backend_note(files, overrides)):
        lines.insert(2, ("backend", *note))
    for name, text, reason in lines:
        yield f"{name:<10}{text}" + (f"  ({reason})" if reason else "")


def _files(files: ImportFiles) -> list[Path]:
    listed = (files.symbol, files.params, files.h5, files.architecture, files.onnx, files.signature, files.labels)
    return [file for file in listed if file is not None]


def _labels_reason(files: ImportFiles, inference: Inference, overrides: Overrides, count: int) -> str:
    if file := overrides.labels or files.labels:
        return file.name
    if inference.labels is not None:
        return "the file's metadata state them"
    return "ImageNet's, because there are 1,000" if count == 1000 else "numbered, because nothing names them"


def _backend_note(files: ImportFiles, overrides: Overrides) -> tuple[str, str] | None:
    from app.formats.keras_h5 import read_h5

    assert files.h5 is not None
    model = read_h5(files.h5, files.architecture)
    if not model.guessed:
        return None
    if overrides.keras_backend:
        return overrides.keras_backend, BY_CALLER
    return "theano" if model.theano else "tensorflow", "Keras 1 does not state it; --keras-backend does"


def _row(values: tuple[float, ...]) -> str:
    return (
        ", ".join(f"{value:.6g}" for value in values)
        if len(values) == 1
        else f"[{', '.join(map('{:.6g}'.format, values))}]"
    )


def _abbreviate(labels: tuple[str, ...]) -> str:
    return "; ".join(labels[:3]) + ("; …" if len(labels) > 3 else "")


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)
