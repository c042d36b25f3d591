"""``dimple models available`` and ``dimple models pull``: models to download by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from app.cli.common import current_settings, next_steps, program, report_errors, table

if TYPE_CHECKING:
    from app.zoo.catalogue import CatalogueEntry


@click.command("available")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output format."
)
@with_appcontext
@report_errors
def available(form: str) -> None:
    """List models that can be downloaded.

    The last column shows which of them are in the models folder already.
    """
    from app.zoo.build import facts_of, pulled_from
    from app.zoo.catalogue import load_catalogue

    settings = current_settings()
    entries = load_catalogue(settings.instance_dir).entries.values()
    here: dict[str, list[str]] = {}
    for folder in sorted(settings.models_dir.iterdir()) if settings.models_dir.is_dir() else ():
        here.setdefault(pulled_from(folder), []).append(folder.name)
    if form == "json":
        click.echo(json.dumps([facts_of(entry) | {"pulled": here.get(entry.name, [])} for entry in entries], indent=2))
        return
    click.echo(table([HEADS, *(_row(entry, here.get(entry.name, [])) for entry in entries)], right=range(1, 5)))
    click.echo(
        f"\n{len(entries)} models; {program()} models pull NAME downloads one. top-1 is the accuracy in per cent."
    )


@click.command("pull")
@click.argument("name")
@click.option("--name", "as_", metavar="AS", default="", help="Name of the model in the models folder, if not NAME.")
@click.option("--force", is_flag=True, help="Replace an existing model of that name.")
@with_appcontext
@report_errors
def pull(name: str, as_: str, force: bool) -> None:
    """Download a model by name.

    NAME is a model that dimple models available lists. If the download is interrupted, run the command again to
    resume it.
    """
    from app.zoo.build import pull as fetch
    from app.zoo.catalogue import load_catalogue
    from app.zoo.download import configured_sources

    settings = current_settings()
    entry = load_catalogue(settings.instance_dir).get(name)
    folder = fetch(entry, configured_sources(settings), as_, force)
    click.echo(f"{folder} is ready; its licence is {entry.licence!r}.\n{next_steps(settings, folder.name)}")


HEADS = ("name", "MB", "parameters", "top-1", "paper", "input", "licence", "here")


def _row(entry: CatalogueEntry, here: list[str]) -> tuple[str, ...]:
    reported = entry.paper.accuracy.top1 if entry.paper else None
    return (
        entry.name,
        f"{entry.megabytes:.1f}" if entry.megabytes else "",
        f"{entry.parameters:,}" if entry.parameters else "",
        f"{entry.accuracy.top1:.2f}" if entry.accuracy.top1 is not None else "",
        f"{reported:.2f}" if reported is not None else "",
        "x".join(str(size) for size in entry.shape),
        entry.licence,
        "yes" if here == [entry.name] else ", ".join(here),
    )
