"""gunicorn's threaded worker, but clients that are slow, silent or many take no thread from the others.

Every connection waits with one thread until its request is whole (:mod:`app.launch.worker.arriving`). A client that
takes too long is refused; where there are as many connections as the process can have, those that have waited longest
make room. A worker that is to end answers what was sent to it before it does.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from app.launch.worker.accepting import AcceptingWorker
from app.launch.worker.answering import is_read
from app.launch.worker.arriving import Connection, State, quick_body

TICK_SECONDS = 1.0
LOOK_SECONDS = 0.25
LINGER_SECONDS = 2.0
"""For a client to close its side, too, before what it has not read yet would be lost."""
LAST_SECONDS = 1.0
"""Idle connections of a worker that ends may still bring a request that is on its way."""


class PatientWorker(AcceptingWorker):
    """One server process."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._look_again = 0.0
        # in the order in which they came to be there, which is that of their deadlines, too, but for who earned more
        self.keepalived_conns: dict[Connection, None] = {}
        self.pending_conns: dict[Connection, None] = {}
        self._lingering: dict[Connection, float] = {}
        self.later: deque[Connection] = deque()

    def is_parent_alive(self) -> bool:
        """Whether the master lives. Without it the worker ends like one that was told to: its port is wanted."""
        if not super().is_parent_alive():
            self.alive = False
        return bool(self.alive)

    def take_in(self, conn: Connection) -> None:
        """Go on with a connection that has just come; of TLS there is something to do only when the client has
        begun."""
        state = State.WAIT if conn.tls else conn.receive()
        if state is State.READY:
            self.later.append(conn)
        else:
            self.go_on(conn, state)

    def finish_request(self, conn: Connection, future: Any) -> None:
        """Take a connection back from the thread that had it."""
        answered = not future.cancelled() and future.exception() is None
        self.take_back(conn, answered and bool(future.result()))

    def take_back(self, conn: Connection, kept: bool) -> None:
        """Go on with a connection whose request is answered, or close it."""
        if not kept:
            self._linger(conn)
        elif (state := conn.take_back()) is State.READY:
            self._answer_later(conn)
        else:
            self.go_on(conn, state)

    def patience(self) -> float:
        """How many seconds may be waited for connections before something else is to be looked at."""
        if self.later:
            return 0.0
        if not self.alive:
            return LAST_SECONDS / 4
        return min(self.closed_for(), TICK_SECONDS) or TICK_SECONDS

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for something to happen, and see to it."""
        super().wait_for_and_dispatch_events(min(timeout, self.patience()))
        while self.later:
            self.enqueue_req(self.later.popleft())
        self._look_at_room()

    def look_at_deadlines(self) -> None:
        """Let go of who has taken too long, or is too much."""
        self._look_at_room()
        self.murder_keepalived()
        self.murder_pending()

    def _look_at_room(self) -> None:
        if self.nr_conns >= self.worker_connections:
            self.make_room()

    def murder_keepalived(self) -> None:
        """Close idle connections whose time is over."""
        stays = self.cfg.keepalive if self.alive else LAST_SECONDS
        while self.keepalived_conns:
            conn = next(iter(self.keepalived_conns))
            if time.monotonic() < conn.arrival.begun + stays:
                return
            self._close_idle(conn)

    def murder_pending(self) -> None:
        """Refuse clients that took too long, and close what has lingered."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_SECONDS
        for conn in [one for one in self.pending_conns if now > self._deadline(one)]:
            self._give_up(conn)
        for conn in [one for one, until in self._lingering.items() if now > until]:
            self._close(conn)

    def _deadline(self, conn: Connection) -> float:
        """When a connection whose request has not come is given up. A worker that ends waits for no silent ones."""
        if self.alive or conn.arrival.data:
            return conn.arrival.deadline
        return conn.arrival.begun + LAST_SECONDS

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Answer; who does not take the answer is as good as gone."""
        req.body = quick_body(req.body)
        try:
            return super().handle_request(req, conn)
        except (BlockingIOError, TimeoutError):
            raise ConnectionResetError(errno.ECONNRESET, "the client does not take its answer") from None

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        if keepalive and is_read(conn.parser.mesg.body):
            return True
        return bool(super()._keepalive_after(conn, keepalive))

    def go_on(self, conn: Connection, state: State) -> None:
        """Do with a connection what is to be done, which nobody waits for at this moment."""
        if state is State.READY:
            self.enqueue_req(conn)
        elif state is State.GONE:
            self._close(conn)
        else:
            waiting = self.pending_conns if conn.arrival.data or not conn.initialized else self.keepalived_conns
            waiting[conn] = None
            if not conn.polled:
                self._poll(conn, partial(self._on_readable, conn))

    def _on_readable(self, conn: Connection, _socket: Any = None) -> None:
        if not conn.polled:  # it was closed for another one's sake after this was found
            return
        state = conn.receive()
        if state is not State.WAIT:
            self.keepalived_conns.pop(conn, None)
            self.pending_conns.pop(conn, None)
            self.go_on(conn, state)
        elif conn.arrival.data and conn in self.keepalived_conns:  # its next request has begun
            del self.keepalived_conns[conn]
            self.pending_conns[conn] = None

    def _close_idle(self, conn: Connection) -> None:
        """Close a connection, unless it has sent something at this moment."""
        state = State.WAIT if conn.tls else conn.receive()
        if state is State.READY:
            self._answer_later(conn)
        elif state is State.WAIT and conn.arrival.data:
            del self.keepalived_conns[conn]
            self.pending_conns[conn] = None
        else:
            self._close(conn)

    def _answer_later(self, conn: Connection) -> None:
        """Answer a request that is there, after those of others that are, too."""
        self._forget(conn)
        self.later.append(conn)

    def _give_up(self, conn: Connection) -> None:
        """Refuse a client whose time is over; one that has said nothing at all is not answered."""
        self._forget(conn)
        if conn.arrival.data:
            conn.refuse()
            self._linger(conn)
        else:
            self._close(conn)

    def _linger(self, conn: Connection) -> None:
        """Close a connection when its client does: at once, the kernel would take back what that has not read yet
        (RFC 9112, section 9.6). gunicorn would wait for it, and nobody else be served meanwhile."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._lingering[conn] = time.monotonic() + LINGER_SECONDS
            self._poll(conn, partial(self._drain, conn))
        except (OSError, ValueError):
            self._close(conn)

    def _drain(self, conn: Connection, _socket: Any) -> None:
        if not conn.polled:
            return
        try:
            if conn.sock.recv(2**16):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(conn)

    def _forget(self, conn: Connection) -> None:
        """Wait for a connection no longer."""
        self.keepalived_conns.pop(conn, None)
        self.pending_conns.pop(conn, None)
        self._lingering.pop(conn, None)
        self.stop_polling(conn)

    def _poll(self, conn: Connection, callback: Any) -> None:
        """Have something called whenever a connection has something to read."""
        self.stop_polling(conn)
        self.poller.register(conn.sock, EVENT_READ, callback)
        conn.polled = True

    def stop_polling(self, conn: Connection) -> None:
        """Look no longer whether a connection has something to read."""
        if conn.polled:
            conn.polled = False
            with suppress(KeyError, ValueError):
                self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self._forget(conn)
        self.count(-1)
        conn.close()

    def make_room(self) -> None:
        """Let go of who should have gone, else of who has been idle longest, else of who has been sending longest; of
        nobody who has just come."""
        ways = (
            (self._lingering, self._close),
            (self.keepalived_conns, self._close_idle),
            (self.pending_conns, self._give_up),
        )
        for waiting, let_go in ways:
            conn = next(iter(waiting), None)
            if conn is not None and time.monotonic() > conn.arrival.begun + TICK_SECONDS:
                let_go(conn)
                return
