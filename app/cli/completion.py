"""Shell completion of model names."""

from __future__ import annotations

import click

from app.errors import SettingError
from app.settings import read_settings


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names in the models folder that begin with the incomplete word."""
    try:
        folders = [path.name for path in read_settings().models_dir.iterdir() if path.is_dir()]
    except (SettingError, OSError):
        return []
    return sorted(name for name in folders if name.startswith(incomplete) and not name.startswith("."))
