"""gunicorn's threaded worker, but clients that are slow, silent or many take no thread from the others.

Every connection waits with one thread until its request is whole (:mod:`app.launch.worker.arriving`). A client that
takes too long is refused; where there are as many connections as the process can have, those that have waited longest
make room. A process that has more connections than another lets that one take the next. A worker that is to end answers
what was sent to it before it does.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import socket
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from app.launch.worker.answering import WholeResponse, is_read
from app.launch.worker.arriving import Connection, State, quick_body
from app.launch.worker.spread import SPREAD

TICK_SECONDS = 1.0
LOOK_SECONDS = 0.25
REST_SECONDS = 0.1
"""Between two attempts to accept a connection where the process can have no more."""
YIELD_SECONDS, LONGEST_YIELD_SECONDS = 0.001, 0.01
"""How long a process that has more connections than another leaves the next one to that, before it looks again; and
before it takes it after all."""
TELL_SECONDS = 10.0
LINGER_SECONDS = 2.0
"""For a client to close its side, too, before what it has not read yet would be lost."""
LAST_SECONDS = 1.0
"""Idle connections of a worker that ends may still bring a request that is on its way."""
SPARE_FILES = 128
"""That are opened for other things than connections: pictures, pages, handlers."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """One server process. ``client_seconds`` is what a client has for a request."""

    client_seconds = 30.0
    worker_connections: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._served = mmap.mmap(-1, 1)  # made before the fork: the master sees what the worker writes
        self._accept_again = self._look_again = self._tell_again = 0.0
        # in the order in which they came to be there, which is that of their deadlines, too, but for who earned more
        self.keepalived_conns: dict[Connection, None] = {}
        self.pending_conns: dict[Connection, None] = {}
        self._lingering: dict[Connection, float] = {}
        self._yields_since = 0.0
        self.later: deque[Connection] = deque()

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

    def is_parent_alive(self) -> bool:
        """Whether the master lives. Without it the worker ends like one that was told to: its port is wanted."""
        if not super().is_parent_alive():
            self.alive = False
        return bool(self.alive)

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
            if self._yields() or not self._accept_one(listener):
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
        self._count(1)
        config, name = self._facts[listener]
        conn = Connection(config, client, address, name, self.client_seconds)
        # of TLS there is something to do only when the client has begun
        state = State.WAIT if conn.tls else conn.receive()
        if state is State.READY:
            self.later.append(conn)
        else:
            self.go_on(conn, state)
        return not self.alive or self.nr_conns < self.worker_connections

    def _yields(self) -> bool:
        """Leave a connection to another process that has fewer; where that does not take it in time, do not."""
        if not self.alive or SPREAD.is_least(self.nr_conns):
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

    def _count(self, step: int) -> None:
        self.nr_conns += step
        if self.alive:
            SPREAD.tell(self.age, self.nr_conns)

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
        return max(0.0, min(self._accept_again - time.monotonic(), TICK_SECONDS)) or TICK_SECONDS

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
            self._make_room()

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
        """Answer; who does not take the answer is as good as gone.

        :returns: whether the connection stays.
        """
        req.body = quick_body(req.body)
        began = datetime.now()
        response, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, WholeResponse)
        environ["wsgi.multithread"] = True
        self.nr += 1
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        try:
            self._send(environ, response)
        except (BlockingIOError, TimeoutError):
            raise ConnectionResetError(errno.ECONNRESET, "the client does not take its answer") from None
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            self.log.exception("Error handling request")  # half an answer is sent: nothing can follow it
            return False
        finally:
            self.log.access(response, req, environ, datetime.now() - began)
        return not response.should_close()

    def _send(self, environ: dict[str, Any], response: WholeResponse) -> None:
        pieces = self.wsgi(environ, response.start_response)
        try:
            for piece in pieces:
                response.write(piece)
            response.close()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

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
        self._count(-1)
        conn.close()

    def _rest(self, error: OSError) -> None:
        """Accept nobody for a moment: who comes waits before the door, and is not lost."""
        now = time.monotonic()
        if now > self._tell_again:
            self.log.warning("No more connections for the moment: %s. Clients wait.", error.strerror)
            self._tell_again = now + TELL_SECONDS
        self._accept_again = now + REST_SECONDS
        super().set_accept_enabled(False)
        self._make_room()

    def _make_room(self) -> None:
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
