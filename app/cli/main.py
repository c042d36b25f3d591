"""``dimple``, the program in ``bin/``, and groups of commands that are imported when they run.

Help and shell completion import none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from app.settings import VERSION, Settings

if TYPE_CHECKING:
    from flask import Flask


class LazyCommands(MutableMapping[str, click.Command]):
    """Commands of a group by name, each imported on first use.

    :param targets: for each name, the location of the command as ``module:attribute``, and its one-line help.
    """

    def __init__(self, targets: Mapping[str, tuple[str, str]]) -> None:
        self._targets = dict(targets)
        self._imported: dict[str, click.Command] = {}

    def short_help(self, name: str) -> str:
        """Return the one-line help of a command without importing it."""
        return self._targets[name][1] if name in self._targets else self[name].get_short_help_str()

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._imported:
            module, _, attribute = self._targets[name][0].partition(":")
            self._imported[name] = getattr(importlib.import_module(module), attribute)
        return self._imported[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._targets.pop(name, None)
        self._imported[name] = command

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._targets.pop(name, None)
        self._imported.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._targets, **self._imported})

    def __len__(self) -> int:
        return len({**self._targets, **self._imported})

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._imported


class LazyGroup(click.Group):
    """Group of lazily imported commands, listed in the order of their table."""

    def __init__(self, *arguments: object, targets: Mapping[str, tuple[str, str]], **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.commands: LazyCommands = LazyCommands(targets)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands.short_help(name)) for name in self.list_commands(ctx)])


MODEL_COMMANDS = {
    "list": ("app.cli.manage:list_models", "List the models"),
    "info": ("app.cli.manage:info", "Show one model"),
    "available": ("app.cli.zoo:available", "List models that can be downloaded"),
    "pull": ("app.cli.zoo:pull", "Download a model by name"),
    "import": ("app.cli.import_model:import_command", "Import model files"),
    "train": ("app.cli.train:train", "Train a classifier on your images"),
    "evaluate": ("app.cli.evaluate:evaluate", "Measure accuracy on labelled images"),
    "convert": ("app.cli.convert:convert", "Convert models for installs that only serve"),
    "quantize": ("app.cli.convert:quantize", "Convert a model to 8-bit integers (INT8)"),
    "export": ("app.cli.export:export", "Export to ONNX, OpenVINO, MMS, Keras, MXNet"),
    "register": ("app.cli.manage:register", "Register a model with the running server"),
    "remove": ("app.cli.manage:remove", "Remove a model"),
    "archive": ("app.cli.archive:archive", "Package a model folder as an MMS archive"),
    "unpack": ("app.cli.archive:unpack_command", "Unpack an MMS archive"),
    "inspect": ("app.cli.archive:inspect", "Show the contents of an archive or folder"),
    "verify": ("app.cli.archive:verify", "Check that an archive or folder can be served"),
}
"""Module and one-line help of each command."""

models_cli = LazyGroup("models", targets=MODEL_COMMANDS, help="Manage, train and convert models.")


COMMANDS = {
    "serve": ("app.cli.serve:serve", "Start the server in the background"),
    "status": ("app.cli.serve:status", "Show the running server and its models"),
    "stop": ("app.cli.serve:stop", "Stop the server"),
    "reload": ("app.cli.serve:reload", "Restart the workers without downtime"),
    "predict": ("app.cli.predict:predict", "Classify images"),
    "rescue": ("app.cli.rescue:rescue", "Convert a model of any age, and prove it"),
    "prove": ("app.cli.rescue:prove", "Check the proof of a rescued model again"),
    "models": ("app.cli.main:models_cli", "Manage, train and convert models"),
    "token": ("app.cli.token:token_cli", "Manage access tokens"),
    "tune": ("app.cli.tune:tune", "Find the best number of workers and threads"),
    "smile": ("app.cli.train_shipped:smile_cli", "Retrain the included smile model"),
    "dogcat": ("app.cli.train_shipped:dogcat_cli", "Retrain the included cat/dog model"),
    "cluster": ("app.cli.cluster:cluster_cli", "Run models on a Ray cluster"),
}


def register_commands(app: Flask) -> None:
    """Add Dimple's commands to the application's; each is imported when it runs."""
    app.cli.commands = LazyCommands(COMMANDS)


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
