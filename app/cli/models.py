"""``flask models``: everybody's own models."""

from __future__ import annotations

from flask.cli import AppGroup

from app.cli.archive import archive, inspect, unpack_command, verify
from app.cli.evaluate import evaluate
from app.cli.transfer import train

models_cli = AppGroup("models", help="Models of your own.")
for command in (train, evaluate, archive, unpack_command, inspect, verify):
    models_cli.add_command(command)
