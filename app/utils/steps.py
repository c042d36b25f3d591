"""The position in a list of items that are processed in turn, for messages of the code that processes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_position: ContextVar[str] = ContextVar("position", default="")


def numbered(items: Sequence[T]) -> Iterator[T]:
    """Yield the items; meanwhile :func:`position` returns the number of the current one."""
    for number, item in enumerate(items, 1):
        token = _position.set(f"{number}/{len(items)}")
        try:
            yield item
        finally:
            _position.reset(token)


def position() -> str:
    """Return the number of the current item and the total, as ``2/3``; empty outside :func:`numbered`."""
    return _position.get()
