"""``dimple rescue`` and ``dimple prove``: a model converted for good, with a proof, and the check of that proof."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext

from app.cli.common import (
    complete_model,
    current_settings,
    first_labels,
    install_tensorflow,
    next_steps,
    program,
    report_errors,
)
from app.cli.import_model import PATH, model_options, planned

if TYPE_CHECKING:
    from app.engines.proof import Comparison
    from app.serving.rescue import Rescue, Verdict

COLUMN = 11
MEGABYTE = 10**6
tensorflow_option = click.option(
    "--with-tensorflow",
    is_flag=True,
    help="Prove files of TensorFlow and Keras by these programs, installed for it the first time (2 GB).",
)


@click.command("rescue")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@model_options
@click.option(
    "--with",
    "pictures",
    type=PATH,
    help="Folder or zip of 20 to 200 pictures, best in folders named by label, that show which pixels are right.",
)
@tensorflow_option
@with_appcontext
@report_errors
def rescue(
    paths: tuple[Path, ...],
    name: str,
    to: Path | None,
    force: bool,
    scale: tuple[float, ...] | None,
    pictures: Path | None,
    with_tensorflow: bool,
    **options: Any,
) -> None:
    """Convert a model of any age, and prove it.

    PATH is a model folder, an archive (.mar, .model, .tar.gz), or the files of one model as for models import. The
    model folder that it makes needs neither MXNet nor Keras any more: converted/ holds the network for OpenVINO and as
    ONNX, proof.json how far its answers differ from those of the source, and model-card.md all that is known. Nothing
    appears if a step fails.

    Nothing in old files says how a picture becomes the network's input. With pictures, the plausible ways are tried:
    pictures in folders named by label give the accuracy of each, others how sure and how stable the answers are.
    """
    from app.formats.archive.unpack import unpack
    from app.formats.pictures import open_pictures
    from app.serving.model_import import check_target
    from app.serving.rescue import is_whole, rescue_files, rescue_folder

    settings, path = current_settings(), paths[0]
    if with_tensorflow:
        install_tensorflow(settings)
    with ExitStack() as stack:
        source = stack.enter_context(open_pictures(pictures)) if pictures is not None else None
        if len(paths) > 1 or not is_whole(path):
            plan, target = planned(settings, paths, name, to, force, scale, options)
            result = rescue_files(plan, target, settings, source)
        else:
            if scale or any(value is not None for value in options.values()):
                raise click.UsageError(f"{path} is a whole model: only --name, --with, --to and --force go with it")
            stem, is_folder = path.resolve().name, path.is_dir()
            target = to or settings.models_dir / (name or (stem if is_folder else _without_suffixes(stem)))
            check_target(target, force or (is_folder and target.absolute() == path.absolute()))
            if not is_folder:
                work = stack.enter_context(tempfile.TemporaryDirectory(prefix="dimple-"))
                path = unpack(path, Path(work) / target.name)
            result = rescue_folder(path, target, settings, source)
    is_served = target.absolute().parent == settings.models_dir
    click.echo("\n".join(_rescue_lines(result, target, target.name if is_served else str(target.absolute()))))
    for warning in (*result.notes, *result.model.warnings):
        click.echo(f"warning   {warning}", err=True)
    if is_served:
        click.echo(f"\n{next_steps(settings, target.name)}")


def _without_suffixes(archive: str) -> str:
    return archive.removesuffix(".gz").rpartition(".")[0]


@click.command("prove")
@click.argument("name", shell_complete=complete_model)
@tensorflow_option
@with_appcontext
@report_errors
def prove(name: str, with_tensorflow: bool) -> None:
    """Check the proof of a rescued model again.

    The converted network of the model NAME computes the inputs of the proof on this machine; a NAME with a slash is
    the path of a model folder elsewhere. Its answers are compared with those of the source's own program if that is
    installed, and with the stored ones. The exit status is 1 if they differ, or a file was changed.
    """
    from app.cli.predict import find_model
    from app.formats.folder import is_model_folder, open_model_folder
    from app.serving.rescue import check_proof

    settings = current_settings()
    if with_tensorflow:
        install_tensorflow(settings)
    is_path = "/" in name and is_model_folder(Path(name))
    folder = open_model_folder(Path(name)) if is_path else find_model(settings, name)
    verdict = check_proof(folder, settings)
    click.echo("\n".join(_verdict_lines(name, verdict)))
    if verdict.note:
        click.echo(f"warning   {verdict.note}", err=True)
    if not verdict.holds:
        raise SystemExit(1)


def _rescue_lines(result: Rescue, target: Path, name: str) -> Iterator[str]:
    """Yield one screen of what was found, made and proven; ``name`` is what ``dimple prove`` takes."""
    from app.formats.folder import CONVERTED
    from app.formats.inference import confidence_of
    from app.formats.pixels import describe_pixels
    from app.serving.model_card import CARD
    from app.serving.pixel_search import lines_of

    model, proof, reasons = result.model, result.proof, result.reasons
    shape = " x ".join(str(size) if size else "any" for size in model.input.shape)
    facts = {
        "input": f"{model.input.name} ({shape}), {model.preprocess.layout}",
        "pixels": describe_pixels(model.preprocess),
        "output": f"{len(model.labels):,} classes, activation {model.postprocess.activation}",
        "labels": first_labels(model.labels),
    }
    yield f"{target.name} is rescued: {target}"
    yield ""
    yield _line("source", ", ".join(proof.source))
    for part, text in facts.items():
        yield _line(part, text)
        if reason := reasons.get(part):
            yield _line("", f"{confidence_of(reason)}: {reason}")
    size = sum((target / file).stat().st_size for file in proof.result) / MEGABYTE
    yield _line(CONVERTED, f"{', '.join(file.removeprefix(f'{CONVERTED}/') for file in proof.result)}: {size:.1f} MB")
    yield from _compared("OpenVINO", proof.converted, f"not proven: {proof.unproven}")
    yield from _compared("ONNX", proof.onnx, f"none: {proof.no_onnx}")
    yield _line("card", str(target / CARD))
    yield ""
    if result.found is not None:
        yield from lines_of(result.found)
        yield ""
    if confidence_of(reasons.get("pixels", "")) == "assumed":
        yield "The pixels are assumed. Some pictures would show whether they are right: --with PICTURES"
    yield f"To check it again, on any machine: {program()} prove {name}"


def _verdict_lines(name: str, verdict: Verdict) -> Iterator[str]:
    """Yield one screen of what was compared."""
    proof = verdict.proof
    files = len(proof.source) + len(proof.result)
    known = "proven" if proof.converted is not None or verdict.reference is not None else "as it was, but never proven"
    yield f"{name}: {known if verdict.holds else 'NOT proven'}"
    yield ""
    yield _line("files", f"changed: {', '.join(verdict.changed)}" if verdict.changed else f"all {files} as proven")
    yield from _compared("now", verdict.reference, f"no reference: {verdict.no_reference}")
    yield from _compared("stored", verdict.stored, "there are no stored answers")


def _line(title: str, text: str) -> str:
    return f"{title:<{COLUMN}}{text}".rstrip()


def _compared(title: str, comparison: Comparison | None, otherwise: str) -> Iterator[str]:
    if comparison is None:
        yield _line(title, otherwise)
        return
    verdict = "proven" if comparison.holds else "DIFFERENT"
    worst, limit = comparison.max_abs_difference, comparison.limit
    yield _line(title, f"{verdict}: a probability differs by {worst:.1e} at most ({limit:.0e} is allowed),")
    same = f"{comparison.same_class} of {comparison.inputs} inputs get the same class"
    yield _line("", f"{same}; {comparison.engine} against {comparison.reference}")
