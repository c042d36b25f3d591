"""What goes wrong on the command line: one line that says what and what to do, never a stack trace."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from app.errors import DimpleError

P = ParamSpec("P")
R = TypeVar("R")


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with status 1 and the error's own words where it raises one of ours."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DimpleError as error:
            raise click.ClickException(str(error)) from None

    return wrapped
