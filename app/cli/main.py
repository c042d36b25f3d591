"""``dimple``, the program in ``bin/``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from app.cli import COMMANDS
from app.cli.lazy import LazyGroup
from app.settings import VERSION, Settings

if TYPE_CHECKING:
    from flask import Flask


@dataclass(frozen=True)
class CommandContext:
    """Context of a command, stored as the application's extension ``dimple``."""

    settings: Settings


@click.group(
    "dimple",
    cls=LazyGroup,
    targets=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, message="dimple %(version)s")
@click.pass_context
def dimple(context: click.Context) -> None:
    """Serve, train and convert image classifiers.

    Settings are environment variables, DIMPLE_PORT for example; docs/settings.md lists them.
    """
    from flask.cli import ScriptInfo

    context.obj = ScriptInfo(create_app=settings_app)


def settings_app() -> Flask:
    """Return an application with settings but without models: each command loads the models that it needs.

    :raises click.ClickException: if a setting is unknown or invalid.
    """
    from flask import Flask

    from app.errors import SettingError
    from app.settings import read_settings

    app = Flask("app")
    try:
        app.extensions["dimple"] = CommandContext(read_settings())
    except SettingError as error:
        raise click.ClickException(str(error)) from None
    return app
