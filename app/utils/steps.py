"""The position in a list of items that are processed in turn, for messages of the code that processes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
