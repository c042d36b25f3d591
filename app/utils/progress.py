"""How long work shows that it goes on: a bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_SECONDS = 10.0


class Progress(Protocol):
    """What long work tells of itself."""

    def advance(self, amount: int = 1) -> None:
        """So much more is done."""

    def note(self, text: str) -> None:
        """Show a few words beside the count, until there are others: ``loss 0.31``."""


@contextmanager
def progress(title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show how far work has come, on standard error.

    :param total: units of work in all; None where nobody knows.
    :param unit: what is counted, in the plural (``pictures``); ``B`` counts bytes, in kB and MB.
    :param done: units that were done before, by a run that was cut off.
    """
    if sys.stderr.isatty():
        size = {"unit": "B", "unit_scale": True} if unit == "B" else {"unit": f" {unit}"}
        with tqdm(total=total, desc=title, initial=done, leave=False, dynamic_ncols=True, **size) as bar:
            yield _Bar(bar)
    else:
        yield _Lines(title, total, unit, done)


def track(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Pass the items on, one by one, and show how many have been asked for."""
    with progress(title, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()


def echo(text: str) -> None:
    """Print a line on standard error without breaking a bar that stands there."""
    tqdm.write(text, file=sys.stderr)


class _Bar:
    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def advance(self, amount: int = 1) -> None:
        self._bar.update(amount)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)


class _Lines:
    """A line every ten seconds: in a log nobody wants to see a bar grow."""

    def __init__(self, title: str, total: int | None, unit: str, done: int) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._note = ""
        self._started = self._last = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            print(self._line(now - self._started), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self._note = text

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds
        of_all = f" of {self._amount(self._total)}" if self._total is not None else ""
        left = f", {(self._total - self._done) / rate:.0f} s left" if self._total is not None and rate else ""
        note = f", {self._note}" if self._note else ""
        return f"{self._title}: {self._amount(self._done)}{of_all} {self._name}, {self._amount(rate)}/s{left}{note}"

    @property
    def _name(self) -> str:
        return "MB" if self._unit == "B" else self._unit

    def _amount(self, units: float) -> str:
        if self._unit == "B":
            return f"{units / 1e6:.1f}"
        return f"{units:.1f}" if isinstance(units, float) else f"{units:,}"
