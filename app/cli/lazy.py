"""Command groups whose commands are imported when they run, so that help and shell completion import none of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping

import click


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
        """Return the names of the commands."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands.short_help(name)) for name in self.list_commands(ctx)])
