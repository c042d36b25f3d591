"""``dimple models convert`` and ``quantize``: a network in OpenVINO's format with its proof, and in 8-bit integers."""

from __future__ import annotations

from pathlib import Path

import click
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, report_errors
from app.cli.predict import find_model, opened_model
from app.errors import ModelFormatError
from app.formats.pictures import open_pictures
from app.settings import Settings


@click.command("convert")
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_model)
@with_appcontext
@report_errors
def convert(names: tuple[str, ...]) -> None:
    """Convert models for installs that only serve.

    Writes converted/ into the model's folder: the network in OpenVINO's format, and the proof that it computes what the
    original computes. Any Dimple serves it then, also without MXNet, Keras and ONNX.
    """
    settings = current_settings()
    for name in names:
        folder, difference = _convert(settings, name)
        proven = f", at most {difference:.1e} from the original" if difference is not None else ""
        click.echo(f"{name} is in {folder}{proven}.")


def _convert(settings: Settings, name: str) -> tuple[Path, float | None]:
    from app.engines.conversion_process import ConversionError, cached_entry
    from app.engines.converted import write_converted

    model = find_model(settings, name)
    if not model.has_original:
        raise ModelFormatError(f"{model.path} holds only its converted network; the original is not there")
    try:
        entry = cached_entry(model, settings.engine, settings.cache)
    except ConversionError as problem:
        raise ModelFormatError(f"{name} cannot be converted: {problem}") from None
    parity = entry.record.parity
    return write_converted(model, settings.engine, entry), parity.max_abs_difference if parity is not None else None


NOT_FASTER = "That is no faster: this processor may lack instructions for 8-bit integers (VNNI). "
MISSING = "Quantizing needs NNCF: python -m pip install -r requirements-quantize.txt"


@click.command("quantize")
@click.argument("name", shell_complete=complete_model)
@click.option(
    "--data", type=click.Path(exists=True, path_type=Path), help="Folder or zip of typical images; they need no labels."
)
@click.option("--samples", type=click.IntRange(30), default=300, show_default=True, help="Most images for calibration.")
@click.option(
    "--holdout", type=click.IntRange(100), default=500, show_default=True, help="Most other images to compare."
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Share of these that must keep their predicted class.",
)
@click.option("--remove", is_flag=True, help="Return to the exact model.")
@with_appcontext
@report_errors
def quantize(name: str, data: Path | None, samples: int, holdout: int, min_agreement: float, remove: bool) -> None:
    """Convert a model to 8-bit integers (INT8).

    The model NAME then takes about half the time and a quarter of the memory, and its probabilities change a little.
    The result is used only if enough predictions on held-out images stay the same (--min-agreement). At least 130
    images are needed.
    """
    settings = current_settings()
    if remove:
        click.echo(_remove(settings, name))
        return
    if data is None:
        raise click.UsageError("Images are needed: pass a folder or zip of them with --data.")
    click.echo(_quantize(settings, name, data, samples, holdout, min_agreement))


def _remove(settings: Settings, name: str) -> str:
    from app.serving.quantize import remove

    if not remove(find_model(settings, name)):
        return f"{name} has no quantized network"
    return f"{name} is computed as it was before, after the server's next start"


def _quantize(settings: Settings, name: str, data: Path, samples: int, holdout: int, least: float) -> str:
    from app.engines.int8 import FOLDER
    from app.serving.quantize import QuantizationRequest, can_quantize, check_engine, quantize

    if not can_quantize():
        raise click.ClickException(MISSING)
    check_engine(settings)
    with open_pictures(data) as source, opened_model(settings, name) as model:
        folder = find_model(settings, name)
        made, before = quantize(model, folder, source, QuantizationRequest(samples, holdout, least), settings)
    return (
        f"{name} is in {folder.path / FOLDER}. It calls {made.agreement.top1:.2%} of {made.agreement.samples:,} "
        f"pictures as before, and takes {made.milliseconds:.2f} ms a picture on one core instead of {before:.2f} ms.\n"
        f"{'' if made.milliseconds < before else NOT_FASTER}"
        "The server has it after its next start; --remove takes it away."
    )
