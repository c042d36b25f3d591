"""Where a thread says that it is about to wait for long, so that a server can let another one take its place.

The server's worker has one thread that waits for all connections and answers short requests itself
(:mod:`app.launch.worker.leading`). It would find out by itself that the thread does not come back, but later.
"""

from __future__ import annotations

from collections.abc import Callable

_told: list[Callable[[], None]] = []


def tell_of_long_waits(listener: Callable[[], None]) -> None:
    """Have somebody called, in the thread that is about to wait, from now on."""
    _told.append(listener)


def long_wait() -> None:
    """To be called before waiting, or computing without the interpreter's lock, for more than a few milliseconds."""
    for listener in _told:
        listener()
