"""``dimple models list``, ``info``, ``register`` and ``remove``: the models of this server."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click
from flask.cli import with_appcontext

from app.cli.archive import describe, kind_of, print_fact
from app.cli.common import complete_model, current_settings, program, report_errors, running_settings, table
from app.errors import DimpleError, LaunchError, ModelNotFound
from app.formats.archive.manifest import NAME, read_manifest
from app.formats.folder import is_model_folder
from app.settings import Settings

LOAD_SECONDS = 900.0
"""Timeout for loading a model, including its conversion."""
TOKEN = click.option(
    "--token", envvar="MANAGEMENT_TOKEN", default="", help="Management token, if the server requires one."
)


@dataclass(frozen=True)
class KnownModel:
    """A model that is registered or in the models folder.

    :param state: state that the running server reports.
    """

    name: str
    path: Path
    state: str


@click.command("list")
@with_appcontext
@report_errors
def list_models() -> None:
    """List the models.

    The state is ready, failed or not registered if the server runs, and stopped if it does not.
    """
    rows = [("name", "version", "weights", "state")]
    for model in _known_models(current_settings()):
        try:
            version = read_manifest(model.path).model_version or "1.0"
            kind = kind_of(model.path)
        except DimpleError:
            version, kind = "?", "?"
        rows.append((model.name, version, kind, model.state))
    if len(rows) == 1:
        click.echo(f"There are no models in {current_settings().models_dir}. {program()} models available lists some.")
        return
    click.echo(table(rows))


@click.command("info")
@click.argument("name", shell_complete=complete_model)
@with_appcontext
@report_errors
def info(name: str) -> None:
    """Show one model.

    The output lists the files, input, preprocessing and labels of the model NAME, and its state if the server runs.
    """
    model = _find(name, current_settings())
    print_fact("state", [model.state])
    for fact, values in describe(model.path):
        print_fact(fact, values)


@click.command("register")
@click.argument("source")
@click.option("--name", default="", help="Name of the model, if not that of its folder or archive.")
@click.option("--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Number of workers.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Largest batch.")
@click.option("--replace", is_flag=True, help="Replace the registered model of the same name.")
@TOKEN
@with_appcontext
@report_errors
def register(source: str, name: str, workers: int, batch_size: int, replace: bool, token: str) -> None:
    """Register a model with the running server.

    SOURCE is a folder or archive in the models folder, the URL of an archive, or a name of the catalogue.
    """
    from app.backend.registrations import read_registrations
    from app.server.status import server_url

    running = _running(current_settings())
    if not name and NAME.fullmatch(source) and (running.models_dir / source).is_dir():
        name = source  # the name that the model has after a restart; its manifest may state another
    query = {"url": source, "initial_workers": workers, "batch_size": batch_size, "replace": str(replace).lower()}
    query |= {"model_name": name} if name else {}
    _request(running, "POST", f"/models?{urlencode(query)}", token)
    if not name:
        models = read_registrations(running.instance_dir).models.values()
        name = next((model.name for model in models if model.url == source and not model.removed), source)
    click.echo(f"registered {name}\n  curl -F file=@picture.jpg {server_url(running)}/predict/{name}")


@click.command("remove")
@click.argument("name", shell_complete=complete_model)
@click.option("--keep-files", is_flag=True, help="Only unregister the model; keep its folder.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the folder is deleted.")
@TOKEN
@with_appcontext
@report_errors
def remove(name: str, keep_files: bool, yes: bool, token: str) -> None:
    """Remove a model.

    The model NAME is unregistered from the running server, if there is one, and its folder in the models folder is
    deleted.
    """
    settings = current_settings()
    model = _find(name, settings)
    running = running_settings(settings)
    deletes = not keep_files and model.path.parent == settings.models_dir
    if keep_files and running is None:
        raise LaunchError(f"No server is running, so there is nothing to unregister {name} from.")
    if deletes and not yes:
        click.confirm(f"Delete {model.path}?", abort=True, err=True)
    if running and model.state != NOT_REGISTERED:
        _request(running, "DELETE", f"/models/{quote(name)}", token)
        click.echo(f"unregistered {name}")
    if deletes:
        _delete(model.path)
        click.echo(f"deleted {model.path}")


NOT_REGISTERED = "not registered"


def _delete(path: Path) -> None:
    try:
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    except OSError as error:
        raise LaunchError(f"{path} cannot be deleted: {error.strerror}. Delete it yourself") from None


def _find(name: str, settings: Settings) -> KnownModel:
    models = {model.name: model for model in _known_models(settings)}
    if name not in models:
        raise ModelNotFound(name, sorted(models))
    return models[name]


def _known_models(settings: Settings) -> list[KnownModel]:
    """Return the models that are registered or in the models folder, sorted by name.

    :raises LaunchError: if the server is running but does not respond.
    :raises StorageError: if the registrations cannot be read.
    """
    from app.backend.registrations import read_registrations
    from app.server.status import ask

    running = running_settings(settings)
    states: dict[str, str] = {}
    if running is not None:
        _, answer = ask(running, "GET", "/readyz")
        states = dict.fromkeys(answer["models"], "ready")
        states |= {name: f"failed: {reason}" for name, reason in answer["failed"].items()}
    rest = NOT_REGISTERED if running else "stopped"
    folders = settings.models_dir.iterdir() if settings.models_dir.is_dir() else ()
    found = {path.name: path for path in folders if NAME.fullmatch(path.name) and is_model_folder(path)}
    registered = read_registrations(settings.instance_dir).models.values()
    found |= {item.name: Path(item.path) for item in registered if not item.removed and Path(item.path).is_dir()}
    return [KnownModel(name, path, states.get(name, rest)) for name, path in sorted(found.items())]


def _running(settings: Settings) -> Settings:
    running = running_settings(settings)
    if running is None:
        raise LaunchError(f"No server is running. Start one with {program()} serve; it loads the whole models folder")
    return running


def _request(running: Settings, method: str, path: str, token: str) -> None:
    """Send a request to the management port.

    :raises LaunchError: if the request fails, with the server's reason.
    """
    from app.server.status import ask

    status, answer = ask(running, method, path, management=True, token=token, seconds=LOAD_SECONDS)
    if status >= 400:
        raise LaunchError(_reason(status, answer))


def _reason(status: int, answer: dict[str, Any]) -> str:
    reason = str(answer.get("message") or status)
    if status in (401, 403):
        return f"{reason} Pass it with --token, or as the environment variable MANAGEMENT_TOKEN"
    return reason
