"""The command line, under Flask's own ``flask``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def register_commands(app: Flask) -> None:
    """Add Dimple's commands to the application's."""
    from app.cli.cluster import cluster_cli
    from app.cli.courses import dogcat_cli, smile_cli
    from app.cli.models import models_cli
    from app.cli.predict import predict
    from app.cli.serve import serve, status, stop
    from app.cli.token import token_cli
    from app.cli.tune import tune

    for command in (smile_cli, dogcat_cli, models_cli, predict, serve, stop, status, tune, token_cli, cluster_cli):
        app.cli.add_command(command)
