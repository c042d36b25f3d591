"""``flask models``: everybody's own models."""

from __future__ import annotations

from flask.cli import AppGroup

from app.cli.evaluate import evaluate

models_cli = AppGroup("models", help="Models of your own.")
models_cli.add_command(evaluate)
