"""The door of a server process: which connections it takes in, and when.

It takes no more than it can have, and leaves the next one to a process that has fewer.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import time
from abc import ABC, abstractmethod
from typing import Any

from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from app.launch.worker.arriving import Connection
from app.launch.worker.spread import SPREAD

REST_SECONDS = 0.1
"""Between two attempts to accept a connection where the process can have no more."""
YIELD_SECONDS, LONGEST_YIELD_SECONDS = 0.001, 0.01
"""How long a process that has more connections than another leaves the next one to that, before it looks again; and
before it takes it after all."""
TELL_SECONDS = 10.0
SPARE_FILES = 128
"""That are opened for other things than connections: pictures, pages, handlers."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class AcceptingWorker(ThreadWorker, ABC):  # type: ignore[misc]
    """One server process, as far as it takes connections in. ``client_seconds`` is what a client has for a request."""

    client_seconds = 30.0
    worker_connections: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._served = mmap.mmap(-1, 1)  # made before the fork: the master sees what the worker writes
        self._accept_again = self._tell_again = self._yields_since = 0.0

    @property
    def ready(self) -> bool:
        """Whether the worker has begun to serve. To be asked in the master."""
        return bool(self._served[0])

    def config_of(self, listener: Any) -> Config:
        """The configuration of a listener's connections."""
        return self.cfg

    def prepare(self) -> None:
        """Make ready to serve."""
        self.worker_connections = _room_for(self.worker_connections)
        self._facts = {one: (self.config_of(one), one.getsockname()) for one in self.sockets}
        SPREAD.tell(self.age, 0)
        self._served[0] = 1

    @abstractmethod
    def take_in(self, conn: Connection) -> None:
        """Go on with a connection that has just come."""

    @abstractmethod
    def make_room(self) -> None:
        """Let go of a connection, if there is one that can go."""

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or do not. Who is to end takes those that are there already, and lets go of the port."""
        super().set_accept_enabled(enabled and self.alive and time.monotonic() >= self._accept_again)
        if not self.alive:
            SPREAD.forget(self.age)
            for listener in self.sockets:
                if listener.sock is not None:
                    listener.setblocking(False)
                    self.accept(listener)
                    listener.close()

    def closed_for(self) -> float:
        """How many seconds nobody is to be accepted yet; 0 where connections are."""
        return max(0.0, self._accept_again - time.monotonic())

    def open_door(self) -> None:
        """Accept connections, unless there are too many, or others are to take them at this moment."""
        self.set_accept_enabled(self.nr_conns < self.worker_connections)

    def look_at_door(self) -> None:
        """Take in who has come."""
        if self._accepting:
            for listener in self.sockets:
                self.accept(listener)

    def accept(self, listener: Any) -> None:
        """Take in the connections that are there, and that no other process is to have."""
        for _ in range(self.cfg.backlog):  # no longer, should they never end
            if self._yields(listener) or not self._accept_one(listener):
                return

    def _accept_one(self, listener: Any) -> bool:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._rest(error)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return error.errno == errno.ECONNABORTED
        self.count(1)
        config, name = self._facts[listener]
        conn = Connection(config, client, address, name, self.client_seconds)
        self.take_in(conn)
        return not self.alive or self.nr_conns < self.worker_connections

    def _yields(self, listener: Any) -> bool:
        """Leave a connection to another process that has fewer; where that does not take it in time, do not."""
        # of some sockets, and systems, it is not told how many wait
        if not self.alive or SPREAD.may_take(self.nr_conns, max(1, listener.get_backlog())):
            return False
        now = time.monotonic()
        if now > self._accept_again + LONGEST_YIELD_SECONDS:  # it is long since the last one was left
            self._yields_since = now
        elif now > self._yields_since + LONGEST_YIELD_SECONDS:
            self._yields_since = now
            return False
        self._accept_again = now + YIELD_SECONDS
        super().set_accept_enabled(False)
        return True

    def count(self, step: int) -> None:
        """Have so many connections more, and let the other processes know."""
        self.nr_conns += step
        if self.alive:
            SPREAD.tell(self.age, self.nr_conns)

    def _rest(self, error: OSError) -> None:
        """Accept nobody for a moment: who comes waits before the door, and is not lost."""
        now = time.monotonic()
        if now > self._tell_again:
            self.log.warning("No more connections for the moment: %s. Clients wait.", error.strerror)
            self._tell_again = now + TELL_SECONDS
        self._accept_again = now + REST_SECONDS
        super().set_accept_enabled(False)
        self.make_room()


def _room_for(connections: int) -> int:
    """How many connections the process can have, of those that it is to have; the limit of open files is raised as far
    as that takes, and may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    used = len(os.listdir("/dev/fd"))
    wanted = used + SPARE_FILES + connections
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(1, min(connections, soft - used - min(SPARE_FILES, soft // 4)))
