"""Progress of long work: a bar on a terminal, otherwise occasional plain lines; and the position in a list of items."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from app.utils.files import atomic_write

T = TypeVar("T")
LINE_SECONDS = 10.0
FILE_SECONDS = 0.2

_file: ContextVar[Path | None] = ContextVar("progress", default=None)


class Progress(Protocol):
    """The progress of a long task."""

    def advance(self, amount: int = 1) -> None:
        """Add an amount of completed work."""

    def note(self, text: str) -> None:
        """Display a short note beside the count, such as ``loss 0.31``, until the next one."""


def record_progress(path: Path | None) -> None:
    """Also write the progress of this thread's work to a file, as JSON: title, done, total (or null) and unit.

    A reader always finds a whole document. It is rewritten at the start of each task, and every 0.2 s during it.

    :param path: None ends this.
    """
    _file.set(path)


def step(title: str) -> None:
    """Record the start of work of unknown length in the file of :func:`record_progress`, if there is one."""
    if (path := _file.get()) is not None:
        _write(path, title, 0, None, "")


@contextmanager
def progress(title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Display the progress of work on standard error.

    :param total: total units of work; None if unknown.
    :param unit: name of the units, in the plural (``pictures``); ``B`` counts bytes, in kB and MB.
    :param done: units that an earlier, interrupted run completed.
    """
    if sys.stderr.isatty():
        size = {"unit": "B", "unit_scale": True} if unit == "B" else {"unit": f" {unit}"}
        with tqdm(total=total, desc=title, initial=done, leave=False, dynamic_ncols=True, **size) as bar:
            yield _recorded(_Bar(bar), title, total, unit, done)
    else:
        yield _recorded(_Lines(title, total, unit, done), title, total, unit, done)


def track(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Yield the items, and display the number of items yielded."""
    with progress(title, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()


def echo(text: str) -> None:
    """Print a line on standard error without breaking a visible bar."""
    tqdm.write(text, file=sys.stderr)


def _recorded(display: Progress, title: str, total: int | None, unit: str, done: int) -> Progress:
    path = _file.get()
    return display if path is None else _Recorded(display, path, title, total, unit, done)


def _write(path: Path, title: str, done: int, total: int | None, unit: str) -> None:
    atomic_write(path, json.dumps({"title": title, "done": done, "total": total, "unit": unit}))


class _Recorded:
    """Progress that is displayed, and also written to a file."""

    def __init__(self, display: Progress, path: Path, title: str, total: int | None, unit: str, done: int) -> None:
        self._display, self._path = display, path
        self._title, self._total, self._unit, self._done = title, total, unit, done
        self._last = time.monotonic()
        _write(path, title, done, total, unit)

    def advance(self, amount: int = 1) -> None:
        self._display.advance(amount)
        self._done += amount
        now = time.monotonic()
        if now - self._last >= FILE_SECONDS or self._done == self._total:
            self._last = now
            _write(self._path, self._title, self._done, self._total, self._unit)

    def note(self, text: str) -> None:
        self._display.note(text)


class _Bar:
    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def advance(self, amount: int = 1) -> None:
        self._bar.update(amount)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)


class _Lines:
    """Progress as a line every ten seconds, because a bar is unreadable in a log."""

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


_position: ContextVar[str] = ContextVar("position", default="")


@contextmanager
def item(number: int, total: int) -> Iterator[None]:
    """Process an item in this context: :func:`position` returns its number."""
    token = _position.set(f"{number}/{total}")
    try:
        yield
    finally:
        _position.reset(token)


def position() -> str:
    """Return the number of the current item and the total, as ``2/3``; empty outside :func:`item`."""
    return _position.get()
