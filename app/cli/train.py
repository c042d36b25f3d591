"""``flask smile`` and ``flask dogcat``: train the networks that Dimple ships."""

from __future__ import annotations

from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

from app.errors import DimpleError

SOURCE = click.option(
    "--source",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Zip or folder of the pictures.",
)
EPOCHS = click.option("--epochs", type=click.IntRange(1), help="Passes over the training pictures.")
SEED = click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of everything drawn by lot.")


def _group(name: str, about: str) -> AppGroup:
    group = AppGroup(name, help=about)

    @group.command("train")
    @SOURCE
    @EPOCHS
    @SEED
    def train(source: Path, epochs: int | None, seed: int) -> None:
        """Train, measure on pictures that were kept back, and write the model folder."""
        from app.training import recipes
        from app.training.run import train as run

        settings = current_app.extensions["dimple"].settings
        recipe = {"smile": recipes.SMILE, "dogcat": recipes.DOGCAT}[name]
        try:
            measured = run(recipe, source, settings.models_dir, settings.instance_dir / "training", epochs, seed)
        except DimpleError as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"{settings.models_dir / name}: accuracy {measured.accuracy:.4f}, ROC AUC {measured.auc:.4f}")
        click.echo(f"on {measured.n} pictures that training never saw; confusion {measured.confusion}")

    return group


smile_cli = _group("smile", "The smile network.")
dogcat_cli = _group("dogcat", "The cat/dog network.")
