"""The settings of a command, the running server on this machine, and the next steps that commands print."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flask import current_app

from app.errors import LaunchError
from app.settings import ROOT, Settings

if TYPE_CHECKING:
    import psutil


def current_settings() -> Settings:
    """Return the settings with which the current command runs."""
    settings: Settings = current_app.extensions["dimple"].settings
    return settings


def pid_file(settings: Settings) -> Path:
    """Return the file with the process id of the server."""
    return settings.instance_dir / "server.pid"


def find_server(settings: Settings) -> psutil.Process | None:
    """Return the process of the running server that uses the same instance folder; None if there is none.

    :raises LaunchError: if it belongs to another user.
    """
    from app.server.daemon import find

    return find(pid_file(settings))


def running_settings(settings: Settings) -> Settings | None:
    """Return the settings of the running server; None if there is none."""
    from app.server.daemon import settings_of

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
