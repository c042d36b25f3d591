"""The protocol between a server process and the application on the cost of requests and the threads that answer them.

A server process has a main thread, which reads all connections and answers short requests itself, and a pool of threads
for the others (:mod:`app.server.worker`). The application classifies requests by their heads. Code of a misclassified
request calls :func:`about_to_block` before it waits or computes for more than a few milliseconds. In the main thread
this aborts the attempt, and another thread answers the request from the beginning.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

HEAD_ONLY = "dimple.head_only"
"""Key of the WSGI environment: the body has not arrived. The application answers with the status 100 if it would admit
the request, and sets :data:`MAX_BODY`; otherwise it refuses it."""
MAX_BODY = "dimple.max_body"
"""Key of the WSGI environment: maximum size of the body in bytes."""
ADMITTED = "dimple.admitted"
"""Key of the WSGI environment: the request was admitted before its body came, and counts only once."""
OVERLOADED = "dimple.overloaded"
"""Key of the WSGI environment: the queue is full, so the application refuses this request."""


class Cost(enum.Enum):
    """The cost of answering a request, estimated from its head."""

    SHORT = enum.auto()
    """A few milliseconds without waiting."""
    NORMAL = enum.auto()
    WAITS = enum.auto()
    """A potentially long wait for others."""


class Policy(Protocol):
    """The interface of an application to a server process; stored as ``extensions["request_policy"]``."""

    def cost(self, path: str, query: str, size: int) -> Cost:
        """Return the cost of a request. The main thread calls this: it must not wait.

        :param path: the path as received, still quoted.
        :param size: size of its body in bytes.
        """
        ...


class WouldBlock(BaseException):
    """Raised if the request needs its own thread. It is not an ``Exception``, so that no code handles it as an
    error."""


_thread: Any = threading.local()


def about_to_block() -> None:
    """Announce that the calling thread will wait, or compute for more than a few milliseconds. Call this before any
    change that would have to be undone.

    :raises WouldBlock: inside :func:`not_blocking`.
    """
    if getattr(_thread, "may_not_block", False):
        raise WouldBlock


@contextmanager
def not_blocking() -> Iterator[None]:
    """Forbid the calling thread to block for the duration of the context."""
    _thread.may_not_block = True
    try:
        yield
    finally:
        _thread.may_not_block = False
