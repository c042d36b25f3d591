"""``dimple serve``, ``status``, ``stop`` and ``reload``: the server without a process supervisor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from app.cli.common import current_settings, find_server, pid_file, program, report_errors, running_settings
from app.server import daemon
from app.settings import Settings, to_environment

NOT_RUNNING = 3
"""Exit status of ``status`` for a stopped server, as the Linux Standard Base defines it for services."""


@click.command("serve")
@click.option("--foreground", is_flag=True, help="Stay in the foreground until the server ends.")
@click.option("--host", help="Address of predictions and the page.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of predictions and the page.")
@click.option("--management-port", type=click.IntRange(1, 65535), help="Port of management.")
@click.option("--models-dir", type=click.Path(path_type=Path, resolve_path=True), help="Folder of the models.")
@with_appcontext
@report_errors
def serve(foreground: bool, **options: Any) -> None:
    """Start the server in the background.

    The command returns as soon as the server is ready; the server keeps running when you log out. Options override
    the settings of the same names. The log is instance/logs/server.log, and access.log beside it has the requests.
    """
    from app.security.authorization import check_exposed_management

    here = current_settings()
    check_exposed_management(here)
    logs = here.instance_dir / "logs"
    values: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not foreground:
        log_file = here.log_file or logs / "server.log"
        access_log = str(logs / "access.log") if here.access_log == "-" else here.access_log
        values |= {"log_file": log_file, "log_console": False, "access_log": access_log}
    launch = daemon.Launch(
        environ={**os.environ, **to_environment(values)},
        pid_file=pid_file(here),
        output=logs / "output.log",
        log=values.get("log_file"),
    )
    if foreground:
        daemon.run(launch)
    click.echo(f"Starting Dimple; its log is {_shortest(launch.log)}", err=True)
    daemon.start(launch, lambda line: click.echo(line, err=True))
    _print_ready(running_settings(here) or here)


@click.command("stop")
@with_appcontext
@report_errors
def stop() -> None:
    """Stop the server.

    It finishes the requests in progress first. The server may have been started by dimple serve, make run or gunicorn.
    """
    click.echo("stopped" if daemon.stop(pid_file(current_settings())) else "not running")


@click.command("reload")
@with_appcontext
@report_errors
def reload() -> None:
    """Restart the workers without downtime.

    New workers load the models and take over; the old ones finish their requests. The code and instance/settings.env
    are read again. If the new workers cannot start, the old ones stay.
    """
    process = find_server(current_settings())
    if process is None:
        click.echo(f"not running; start the server with {program()} serve", err=True)
        raise SystemExit(NOT_RUNNING)
    daemon.reload(process)
    click.echo("reloaded")


@click.command("status")
@with_appcontext
@report_errors
def status() -> None:
    """Show the running server and its models.

    The exit status is 0 if the server is ready, 1 if it runs but is not ready, and 3 if it is not running.
    """
    from app.server.status import ask, server_url

    process = find_server(current_settings())
    if process is None:
        click.echo("not running")
        raise SystemExit(NOT_RUNNING)
    running = daemon.settings_of(process)
    click.echo(f"process      {process.pid}")
    click.echo(f"predictions  {server_url(running)}")
    click.echo(f"management   {server_url(running, management=True)}")
    code, answer = ask(running, "GET", "/readyz")
    click.echo(f"ready        {', '.join(answer['models']) or 'no model'}")
    for name, reason in answer["failed"].items():
        click.echo(f"failed       {name}: {reason}")
    if code != 200:
        raise SystemExit(1)


def _print_ready(running: Settings) -> None:
    """Print the address of the server and its models."""
    from app.server.status import Greeting, ask

    _, answer = ask(running, "GET", "/readyz")
    greeting = Greeting(running, len(answer["models"]), len(answer["failed"]), f"{program()} stop")
    click.echo(greeting.box() if sys.stdout.isatty() else greeting.line())


def _shortest(path: Path | None) -> str:
    return os.path.relpath(path) if path and path.is_relative_to(Path.cwd()) else str(path)
