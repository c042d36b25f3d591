"""``dimple models archive``, ``unpack``, ``inspect`` and ``verify``: archives of Multi Model Server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.archive_checks import checks
from app.cli.archive_facts import facts, shown
from app.cli.packers import archiver_options, order, pack_model
from app.cli.problems import tells_problems
from app.formats.archive.opening import open_archive, unpack_into
from app.formats.archive.unpack import unpack
from app.settings import Settings

PATH = click.Path(exists=True, path_type=Path)


@click.command("archive")
@archiver_options
@tells_problems
def archive(convert: bool, **options: Any) -> None:
    """Package a model folder as an MMS archive.

    The options are those of model-archiver, the tool of Multi Model Server.
    """
    click.echo(pack_model(order(**options), convert))


@click.command("unpack")
@click.argument("path", metavar="ARCHIVE", type=PATH)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write.  [default: models/NAME]")
@with_appcontext
@tells_problems
def unpack_command(path: Path, to: Path | None) -> None:
    """Unpack an MMS archive.

    ARCHIVE becomes a model folder. If that fails, no files are left behind.
    """
    if to is not None:
        click.echo(unpack(path, to))
        return
    models_dir = _settings().models_dir
    models_dir.mkdir(parents=True, exist_ok=True)
    click.echo(unpack_into(path, models_dir))


@click.command("inspect")
@click.argument("path", metavar="ARCHIVE|FOLDER", type=PATH)
@tells_problems
def inspect(path: Path) -> None:
    """Show the contents of an archive or folder.

    The output includes how Dimple would serve it. No code of the archive is run.
    """
    with _as_folder(path) as folder:
        for name, values in facts(folder):
            for index, value in enumerate(values):
                click.echo(f"{'' if index else name:<12}{shown(value)}".rstrip())


@click.command("verify")
@click.argument("path", metavar="ARCHIVE|FOLDER", type=PATH)
@click.option("--run/--no-run", default=True, help="Start a worker if the model has its own code.  [default: run]")
@with_appcontext
@tells_problems
def verify(path: Path, run: bool) -> None:
    """Check that an archive or folder can be served.

    It is opened as the server would open it, its parts are checked against each other, and the model predicts once.
    A model's own code is run as it is when a worker starts, with the same limits as in the server.
    """
    with _as_folder(path) as folder:
        failed = 0
        for check in checks(folder, _settings(), run):
            detail = check.detail.replace(str(folder), str(path))  # an archive's folder is gone in a moment
            click.echo(f"{check.state:<9}{check.name}: {shown(detail)}")
            failed += check.state == "failed"
    if failed:
        raise click.ClickException(f"{path}: {failed} of its checks failed")


def _settings() -> Settings:
    settings: Settings = current_app.extensions["dimple"].settings
    return settings


@contextmanager
def _as_folder(path: Path) -> Iterator[Path]:
    """The model folder; an archive's for as long as it is looked at."""
    if path.is_dir():
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dimple-") as place:
        yield open_archive(path, Path(place))
