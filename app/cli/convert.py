"""``dimple models convert``: a model's network in OpenVINO's format, written beside the model with its proof."""

from __future__ import annotations

from pathlib import Path

import click
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, report_errors
from app.cli.predict import find_model
from app.errors import ModelFormatError
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
