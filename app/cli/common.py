"""Parts of all commands: their settings, the running server, errors, completion, and what several of them print."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click
from flask import current_app

from app.errors import DimpleError, LaunchError, SettingError
from app.server.daemon import find, settings_of
from app.settings import ROOT, Settings, read_settings

if TYPE_CHECKING:
    import psutil


def current_settings() -> Settings:
    """Return the settings with which the current command runs."""
    settings: Settings = current_app.extensions["dimple"].settings
    return settings


def install_tensorflow(settings: Settings) -> None:
    """Install TensorFlow and Keras into the instance folder, unless they are installed already."""
    from app.serving.tensorflow_reference import TensorflowReference

    TensorflowReference(settings).install()


def pid_file(settings: Settings) -> Path:
    """Return the file with the process id of the server."""
    return settings.instance_dir / "server.pid"


def find_server(settings: Settings) -> psutil.Process | None:
    """Return the process of the running server that uses the same instance folder; None if there is none.

    :raises LaunchError: if it belongs to another user.
    """
    return find(pid_file(settings))


def running_settings(settings: Settings) -> Settings | None:
    """Return the settings of the running server; None if there is none."""
    process = find_server(settings)
    return settings_of(process) if process else None


def next_steps(settings: Settings, name: str) -> str:
    """Return instructions to serve a new model and send it an image, with the ports of the running server if there is
    one."""
    from app.server.status import server_url

    try:
        running = running_settings(settings)
    except LaunchError:
        running = None  # another user's server: the own settings are the best guess
    command = program()
    serve = f"{command} models register {name}" if running else f"{command} serve"
    url = server_url(running or settings)
    return f"To serve it:\n  {serve}\n  curl -F file=@picture.jpg {url}/predict/{name}"


def program() -> str:
    """Return the command that starts this program: ``dimple`` if the shell finds it, else its path."""
    script = ROOT / "bin" / "dimple"
    found = shutil.which("dimple")
    if found and Path(found).samefile(script):
        return "dimple"
    relative = os.path.relpath(script)
    return str(script) if relative.startswith("..") else relative


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return rows of text as lines with aligned columns.

    :param right: numbers of the columns that are aligned on the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def first_labels(labels: Sequence[str]) -> str:
    """Return the first labels as text: ``tench; goldfish; great white shark; …``."""
    return "; ".join(labels[:3]) + ("; …" if len(labels) > 3 else "")


P = ParamSpec("P")
R = TypeVar("R")


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command to exit with status 1 and the error's message if it raises a Dimple error."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DimpleError as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names in the models folder that begin with the incomplete word."""
    try:
        folders = [path.name for path in read_settings().models_dir.iterdir() if path.is_dir()]
    except (SettingError, OSError):
        return []
    return sorted(name for name in folders if name.startswith(incomplete) and not name.startswith("."))
