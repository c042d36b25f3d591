"""``flask serve``, ``flask stop`` and ``flask status``: the server in the background, without a process supervisor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from app.cli.problems import tells_problems
from app.settings import Settings, to_environment

NOT_RUNNING = 3
"""Exit status of ``status``, as the Linux Standard Base has it for services."""


@click.command("serve")
@click.option("--foreground", is_flag=True, help="Do not return before the server ends.")
@click.option("--host", help="Address of predictions and the page.")
@click.option("--port", type=click.IntRange(1, 65535), help="Their port.")
@click.option("--management-port", type=click.IntRange(1, 65535), help="Port of management.")
@with_appcontext
@tells_problems
def serve(foreground: bool, **told: Any) -> None:
    """Start the server in the background, where it stays when you log out, and return when it answers.

    Its log is instance/logs/server.log, that of the requests access.log beside it.
    """
    from app.access.starting import check_management
    from app.launch.asking import place
    from app.launch.process import Launch, find, run, settings_of, start

    here = _settings()
    check_management(here)
    logs = here.instance_dir / "logs"
    values: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if not foreground:
        log_file = here.log_file or logs / "server.log"
        access_log = str(logs / "access.log") if here.access_log == "-" else here.access_log
        values |= {"log_file": log_file, "log_console": False, "access_log": access_log}
    launch = Launch(
        environ={**os.environ, **to_environment(values)},
        pid_file=_pid_file(here),
        output=logs / "output.log",
        log=values.get("log_file"),
    )
    if foreground:
        run(launch)
    click.echo(f"starting; the log is {launch.log}")
    start(launch)
    process = find(launch.pid_file)
    running = settings_of(process) if process else here
    click.echo(f"serving at {place(running)}, management at {place(running, management=True)}")


@click.command("stop")
@with_appcontext
@tells_problems
def stop() -> None:
    """Stop the server that `flask serve` or `make run` started, when it has answered what it works on."""
    from app.launch.process import stop as stop_server

    click.echo("stopped" if stop_server(_pid_file(_settings())) else "not running")


@click.command("status")
@with_appcontext
@tells_problems
def status() -> None:
    """Tell whether the server runs, where, and which models answer.

    The exit status is 0 where it is ready, 1 where it runs and is not, and 3 where it does not run.
    """
    from app.launch.asking import ask_ready, place
    from app.launch.process import find, settings_of

    process = find(_pid_file(_settings()))
    if process is None:
        click.echo("not running")
        raise SystemExit(NOT_RUNNING)
    running = settings_of(process)
    click.echo(f"process      {process.pid}")
    click.echo(f"predictions  {place(running)}")
    click.echo(f"management   {place(running, management=True)}")
    code, answer = ask_ready(running)
    click.echo(f"ready        {', '.join(answer['models']) or 'no model'}")
    for name, reason in answer["failed"].items():
        click.echo(f"failed       {name}: {reason}")
    if code != 200:
        raise SystemExit(1)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["dimple"].settings
    return settings


def _pid_file(settings: Settings) -> Path:
    return settings.instance_dir / "server.pid"
