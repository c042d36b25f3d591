"""The command line: ``bin/dimple``, and the same commands under ``flask --app app``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

COMMANDS = {
    "serve": ("app.cli.serve:serve", "Start the server in the background"),
    "status": ("app.cli.serve:status", "Show the running server and its models"),
    "stop": ("app.cli.serve:stop", "Stop the server"),
    "reload": ("app.cli.serve:reload", "Restart the workers without downtime"),
    "predict": ("app.cli.predict:predict", "Classify images"),
    "rescue": ("app.cli.rescue:rescue", "Convert a model of any age, and prove it"),
    "prove": ("app.cli.rescue:prove", "Check the proof of a rescued model again"),
    "models": ("app.cli.models:models_cli", "Manage, train and convert models"),
    "token": ("app.cli.token:token_cli", "Manage access tokens"),
    "tune": ("app.cli.tune:tune", "Find the best number of workers and threads"),
    "smile": ("app.cli.train_shipped:smile_cli", "Retrain the included smile model"),
    "dogcat": ("app.cli.train_shipped:dogcat_cli", "Retrain the included cat/dog model"),
    "cluster": ("app.cli.cluster:cluster_cli", "Run models on a Ray cluster"),
}
"""Module and one-line help of each command."""


def register_commands(app: Flask) -> None:
    """Add Dimple's commands to the application's; each is imported when it runs."""
    from app.cli.lazy import LazyCommands

    app.cli.commands = LazyCommands(COMMANDS)
