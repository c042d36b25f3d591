"""``flask models``: everybody's own models."""

from __future__ import annotations

from flask.cli import AppGroup

from app.cli.archive import archive, inspect, unpack_command, verify
from app.cli.evaluate import evaluate
from app.cli.exporting import export
from app.cli.importing import import_command
from app.cli.quantize import quantize
from app.cli.transfer import train
from app.cli.zoo import available, pull

models_cli = AppGroup("models", help="Models of your own.")
OF_FILES = (archive, unpack_command, inspect, verify, available, pull, import_command, export)
for command in (train, evaluate, quantize, *OF_FILES):
    models_cli.add_command(command)
