"""The command line, under Flask's own ``flask``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def register_commands(app: Flask) -> None:
    """Add Dimple's commands to the application's."""
    from app.cli.train import dogcat_cli, smile_cli

    app.cli.add_command(smile_cli)
    app.cli.add_command(dogcat_cli)
