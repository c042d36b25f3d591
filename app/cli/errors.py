"""Errors on the command line: one line with the problem and its remedy, never a stack trace."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from app.errors import DimpleError

P = ParamSpec("P")
R = TypeVar("R")


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command to exit with status 1 and the error's message if it raises a Dimple error."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DimpleError as error:
            raise click.ClickException(str(error)) from None

    return wrapped
