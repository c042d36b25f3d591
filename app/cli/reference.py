"""``docs/cli.md``: the help of every command, written by ``python -m app.cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from app.cli.main import dimple

WIDTH = 100
HEAD = """\
# Command line

`bin/dimple` runs in the checkout without any set-up; in the Docker image it is `dimple`. In a shell,
`export PATH="$PWD/bin:$PATH"` makes it `dimple`, and the next line completes commands, options and model names (zsh and
fish have `zsh_source` and `fish_source`):

    eval "$(_DIMPLE_COMPLETE=bash_source dimple)"

Data goes to standard output, progress and errors to standard error. The exit status is 0 on success, 1 on an error, 2
on a wrong command line, and 3 from `status` and `reload` if no server is running. `flask --app app COMMAND` runs the
same commands.

This page is generated: `.venv/bin/python -m app.cli.reference > docs/cli.md`.
"""


def reference() -> str:
    """Return the help of every command as Markdown."""
    context = click.Context(dimple, info_name="dimple", terminal_width=WIDTH, **dimple.context_settings)
    return "\n".join([HEAD, *_sections(dimple, context)])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.commands[name]
            yield from _sections(child, click.Context(child, info_name=name, parent=context))


if __name__ == "__main__":
    print(reference(), end="")
