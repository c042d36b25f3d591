"""Waits for conditions, and servers in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import TypeVar

Value = TypeVar("Value")
Server = TypeVar("Server", bound=BaseServer)

SECONDS = 60.0
"""Far longer than a busy machine takes; a test waits as long only before it fails."""


def wait_until(
    condition: Callable[[], Value], pause: float = 0.01, seconds: float = SECONDS, message: Callable[[], str] = str
) -> Value:
    """Return the first true value of the condition.

    :param pause: seconds between two checks.
    :param message: what the error says besides, read after the last check.
    :raises AssertionError: if the condition is false for that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"condition not met within {seconds:.0f} s {message()}".rstrip()
        time.sleep(pause)
    return value


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server in a thread, for as long as it is needed."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
