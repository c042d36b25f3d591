"""The WSGI application for gunicorn. The models load at import, so that a worker that answers can answer every request.
Flask commands that import this module by default load only the models that they need."""

from __future__ import annotations

import logging

import click

from app import create_app, load_models
from app.errors import SettingError
from app.server.logging import server_style, style_name
from app.settings import read_settings
from app.telemetry.multiprocess import measured_start

command = click.get_current_context(silent=True)
try:
    settings = read_settings()
except SettingError as error:
    if command is None:
        raise
    raise click.ClickException(str(error)) from None
_lines = logging.StreamHandler()
_lines.setFormatter(server_style(style_name(settings)))
logging.basicConfig(
    level=settings.log_level.upper(), handlers=[_lines]
)  # has no effect if gunicorn has a log file for them
with measured_start(settings.instance_dir / "metrics"):
    app = create_app(settings)
    if command is None or command.info_name == "run":
        load_models(app)
