"""Position in a list of things that are worked on one after the other, for messages of the code that works on one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_position: ContextVar[str] = ContextVar("position", default="")


def numbered(items: Sequence[T]) -> Iterator[T]:
    """Yield the items; :func:`position` tells the number of the current one meanwhile."""
    for number, item in enumerate(items, 1):
        token = _position.set(f"{number}/{len(items)}")
        try:
            yield item
        finally:
            _position.reset(token)


def position() -> str:
    """Return the number of the current item and how many there are, as ``2/3``; empty outside of :func:`numbered`."""
    return _position.get()
