"""``flask models quantize``: a model in 8-bit integers, as long as it calls pictures as before."""

from __future__ import annotations

from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.classify import found, opened
from app.cli.problems import tells_problems
from app.formats.pictures import open_pictures
from app.settings import Settings

MISSING = "Quantizing needs NNCF: python -m pip install -r requirements-quantize.txt"


@click.command("quantize")
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Folder or zip of pictures of the kind that the model will see; their classes do not matter.",
)
@click.option(
    "--samples", type=click.IntRange(30), default=300, show_default=True, help="Pictures to calibrate with, at most."
)
@click.option(
    "--holdout", type=click.IntRange(100), default=500, show_default=True, help="Other pictures to compare on, at most."
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="The part of those that must be called as before.",
)
@click.option("--remove", is_flag=True, help="Take the quantized network away again.")
@with_appcontext
@tells_problems
def quantize(name: str, data: Path | None, samples: int, holdout: int, min_agreement: float, remove: bool) -> None:
    """Compute the model NAME in 8-bit integers from now on: in about half the time, with a quarter of the memory.

    That changes its probabilities a little. It is refused where more than a hundredth of the pictures that it was not
    calibrated with is called otherwise. At least 130 pictures are needed.
    """
    settings: Settings = current_app.extensions["dimple"].settings
    if remove:
        click.echo(_remove(settings, name))
        return
    if data is None:
        raise click.UsageError("Say where pictures are: --data FOLDER, or a zip of them.")
    click.echo(_quantize(settings, name, data, samples, holdout, min_agreement))


def _remove(settings: Settings, name: str) -> str:
    from app.serving.quantizing import remove

    if not remove(found(settings, name)):
        return f"{name} has no quantized network"
    return f"{name} is computed as it was before, after the server's next start"


def _quantize(settings: Settings, name: str, data: Path, samples: int, holdout: int, least: float) -> str:
    from app.serving.quantizing import Wanted, can_quantize, check_engine, quantize

    if not can_quantize():
        raise click.ClickException(MISSING)
    check_engine(settings)
    with open_pictures(data) as source, opened(settings, name) as model:
        made = quantize(model, found(settings, name), source, Wanted(samples, holdout, least), settings)
    return (
        f"{name} is in {made.folder}. It calls {made.agreement.top1:.2%} of {made.agreement.samples:,} pictures as "
        f"before, and takes {made.milliseconds:.2f} ms a picture on one core instead of "
        f"{made.milliseconds_before:.2f} ms.\n"
        "The server has it after its next start; --remove takes it away."
    )
