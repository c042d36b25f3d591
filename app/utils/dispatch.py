"""An agreement between a server process and the application: what a request costs, and which thread answers it.

A server process has a main thread, which reads all connections and answers short requests itself, and a pool of threads
for all others (:mod:`app.server.worker`). The application tells which requests are short by their heads. If one is not
after all, code that is about to wait, or to compute for more than a few milliseconds, says so by
:func:`about_to_block`: in the main thread this ends the attempt, and the request is answered by another thread from its
beginning.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

HEAD_ONLY = "dimple.head_only"
"""A key of the WSGI environment: the body has not arrived. The application answers with the status 100 if it would
admit the request, and sets :data:`MAX_BODY`; else it refuses it."""
MAX_BODY = "dimple.max_body"
"""A key of the WSGI environment: how many bytes the body may have."""
ADMITTED = "dimple.admitted"
"""A key of the WSGI environment: the request was admitted before its body came, and counts only once."""
OVERLOADED = "dimple.overloaded"
"""A key of the WSGI environment: so many requests wait that this one is to be refused."""


class Cost(enum.Enum):
    """What answering a request takes, as far as its head tells."""

    SHORT = enum.auto()
    """A few milliseconds, and no waiting."""
    NORMAL = enum.auto()
    WAITS = enum.auto()
    """It may wait for others for long."""


class Policy(Protocol):
    """The part of an application that a server process asks; found as ``extensions["request_policy"]``."""

    def cost(self, path: str, query: str, size: int) -> Cost:
        """Return what a request takes. Called in the main thread: it must not wait.

        :param path: as it came, still quoted.
        :param size: bytes of its body.
        """
        ...


class WouldBlock(BaseException):
    """The request needs a thread of its own. It is no ``Exception``, so that nobody takes it for an error."""


_thread: Any = threading.local()


def about_to_block() -> None:
    """Note that the calling thread is about to wait, or to compute for more than a few milliseconds. To be called
    before anything is changed that would have to be changed back.

    :raises WouldBlock: inside of :func:`not_blocking`.
    """
    if getattr(_thread, "may_not_block", False):
        raise WouldBlock


@contextmanager
def not_blocking() -> Iterator[None]:
    """Let the calling thread not block as long as this lasts."""
    _thread.may_not_block = True
    try:
        yield
    finally:
        _thread.may_not_block = False
