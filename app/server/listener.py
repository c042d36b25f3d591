"""The listening sockets of a worker, and which worker accepts the next connection.

All workers wait at the same port, and chance decides which of them accepts a connection. Eight clients may be divided
five to three between two workers, and then wait longer for as long as they keep their connections. So the workers have
their connection counts in shared memory, and one with more connections leaves the next one to the others.
"""

from __future__ import annotations

import copy
import errno
import mmap
import os
import resource
import time
from collections.abc import Callable, Iterable
from selectors import EVENT_READ, BaseSelector
from typing import Any

from gunicorn.config import Config

from app.server.addresses import speaks_https
from app.server.connection import Connection
from app.settings import Settings

PAUSE_SECONDS = 0.1
"""Interval between two attempts to accept a connection while the process is out of file descriptors or memory."""
YIELD_SECONDS, MAX_YIELD_SECONDS = 0.001, 0.01
"""Time for which a process with more connections leaves the next one to another before it checks again, and time after
which it accepts the connection regardless."""
WARN_SECONDS = 10.0
SPARE_FILES = 128
"""File descriptors reserved for other uses than connections: images, pages, handlers."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PLACES = 256
"""Slots for processes. Processes are numbered in the order of their start, so never as many run at once."""


class ConnectionCounts:
    """The connection counts of all workers. Create it before the workers fork, so that they inherit the memory."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("I")  # count + 1; 0 marks a free slot

    def set(self, process: int, connections: int) -> None:
        """Set the count of a process."""
        self._counts[process % PLACES] = connections + 1

    def remove(self, process: int) -> None:
        """Remove a process that no longer accepts connections."""
        self._counts[process % PLACES] = 0

    def retain(self, processes: Iterable[int]) -> None:
        """Remove all processes except these."""
        live_slots = {process % PLACES for process in processes}
        for place in range(PLACES):
            if place not in live_slots:
                self._counts[place] = 0

    def should_accept(self, connections: int, waiting: int) -> bool:
        """Return whether a process with ``connections`` should accept the next one.

        It should if it has less than its share of all connections, including those waiting at the port. It also should
        if no process has noticeably fewer: a difference of one in eight does not matter.
        """
        counts = [count - 1 for count in self._counts.tolist() if count]
        return connections * len(counts) < sum(counts) + waiting or all(
            count + count // 8 >= connections for count in counts
        )


COUNTS = ConnectionCounts()
"""The connection counts of the server."""


class Listener:
    """A listening socket, with TLS or without."""

    def __init__(self, listener: Any, cfg: Config, settings: Settings, log: Any) -> None:
        self._listener, self._settings, self._log = listener, settings, log
        name = listener.getsockname()
        plain = cfg.is_ssl and not speaks_https(name, settings)
        self._cfg = _without_certificate(cfg) if plain else cfg
        # For a Unix socket, gunicorn would take the port from the Host header, which the client chooses. The port tells
        # management requests from others.
        port = settings.management_port if f"unix:{name}" == settings.management_host else settings.port
        self._name = ("localhost", port) if isinstance(name, str) else name
        self._opens_at = self._warns_at = self._yields_since = 0.0
        self.is_watched = False
        listener.setblocking(False)

    def seconds_closed(self) -> float:
        """Return the seconds for which no connection may be accepted yet."""
        return max(0.0, self._opens_at - time.monotonic())

    def watch(self, poller: BaseSelector, enabled: bool, callback: Callable[[Any], None]) -> None:
        """Register ``callback`` for new connections, or unregister it."""
        enabled = enabled and time.monotonic() >= self._opens_at
        if enabled != self.is_watched:
            self.is_watched = enabled
            if enabled:
                poller.register(self._listener, EVENT_READ, callback)
            else:
                poller.unregister(self._listener)

    def accept(self) -> Connection | None:
        """Accept the next connection; return None if there is none, or the process is out of resources."""
        while True:
            try:
                sock, address = self._listener.accept()
                limits = self._settings.client_timeout, self._settings.max_request_bytes
                return Connection(self._cfg, sock, address, self._name, *limits)
            except BlockingIOError:
                return None
            except OSError as error:  # otherwise the client has gone already
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    return None

    def should_yield(self, connections: int) -> bool:
        """Return whether to leave the next connection, briefly, to a process that has fewer connections."""
        # the backlog is unknown for some sockets and systems
        if COUNTS.should_accept(connections, max(1, self._listener.get_backlog())):
            return False
        now = time.monotonic()
        if now > self._opens_at + MAX_YIELD_SECONDS:  # the last yield was long ago
            self._yields_since = now
        elif now > self._yields_since + MAX_YIELD_SECONDS:
            self._yields_since = now
            return False
        self._opens_at = now + YIELD_SECONDS
        return True

    @property
    def is_exhausted(self) -> bool:
        """Return whether the process lacked resources for the last connection."""
        return self.seconds_closed() > YIELD_SECONDS

    def _pause(self, error: OSError) -> None:
        now = time.monotonic()
        self._opens_at = now + PAUSE_SECONDS
        if now > self._warns_at:
            self._warns_at = now + WARN_SECONDS
            self._log.warning("Cannot accept connections: %s. Clients wait.", error.strerror)

    def close(self) -> None:
        """Close the listening socket."""
        self._listener.close()


def raise_file_limit(connections: int) -> int:
    """Raise the limit of open files for ``connections`` as far as allowed; return the number of possible ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    used = len(os.listdir("/dev/fd"))
    required = used + SPARE_FILES + connections
    if soft < required:
        soft = required if hard == resource.RLIM_INFINITY else min(hard, required)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, soft - used - min(SPARE_FILES, soft // 4)))


def _without_certificate(config: Config) -> Config:
    plain = Config()
    plain.settings = dict(config.settings)
    for name in ("certfile", "keyfile"):
        plain.settings[name] = copy.copy(config.settings[name])
        plain.settings[name].set(None)
    return plain
