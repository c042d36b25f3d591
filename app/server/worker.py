"""gunicorn's threaded worker, except that a thread gets only requests that have arrived completely.

The main thread owns every connection that has no request in the thread pool. It reads without blocking, answers short
requests itself, one after the other, and submits all other requests to the pool. Under the interpreter lock, a
hand-over costs as much as a short request. Slow or silent clients occupy no thread.

A generator serves each connection (:meth:`Worker._serve`). It runs in the main thread, and yields whenever it waits:
for data, for its turn among the requests that have arrived, or for work in the pool.

The pool runs a limited number of requests that may wait long, for example for a slow model. The application refuses
further ones immediately (503), so that threads remain for other requests.
"""

from __future__ import annotations

import enum
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.http.wsgi import Response, create
from gunicorn.workers.gthread import ThreadWorker

from app.server.connection import Connection, Output
from app.server.listener import COUNTS, Listener, raise_file_limit
from app.server.parse_errors import BROKEN, TooSlow, response_to
from app.server.request_reader import State
from app.server.thread_pool import ThreadPool
from app.settings import read_settings
from app.utils.dispatch import ADMITTED, HEAD_ONLY, MAX_BODY, OVERLOADED, Cost, Policy, WouldBlock, not_blocking

TICK_SECONDS = 1.0
LOOK_SECONDS = 0.25
"""Interval between two checks of the deadlines of all connections."""
LAST_SECONDS = 1.0
"""Time that idle connections of a worker in shutdown have for a request that is already on its way."""
EVICTABLE_SECONDS = 1.0
"""Age after which a connection may be closed in favour of another."""
READS = 4
"""Consecutive reads of one connection before other connections get their turn."""
RESERVED_THREADS = 8
"""Threads of the pool that requests that may wait long do not get."""

CONTINUE = 100


class Pause(enum.Enum):
    """What the generator of a connection waits for, unless it is work in the pool."""

    DATA = enum.auto()
    """Data. The generator gets True instead if its time is over, or another connection needs its place."""
    TURN = enum.auto()


Work = Callable[[], Any]
Steps = Generator[Pause | Work, Any, bool]


class HttpResponse(Response):  # type: ignore[misc]
    """gunicorn's response without a ``Server`` header, as Multi Model Server sends it."""

    def default_headers(self) -> list[str]:
        """Return the status line and the default headers."""
        return [line for line in super().default_headers() if not line.startswith("Server:")]


class Worker(ThreadWorker):  # type: ignore[misc]
    """A gunicorn worker."""

    alive: bool
    worker_connections: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._serves = mmap.mmap(-1, 1)  # created before the fork: shared with the master
        self._connections: dict[Connection, Steps] = {}
        self._turns: deque[Connection] = deque()
        self._waiting = 0  # requests in the pool that may wait
        self._next_look = 0.0
        self._idle_until = float("inf")

    @property
    def ready(self) -> bool:
        """Return whether the worker has begun to serve. Call it in the master."""
        return bool(self._serves[0])

    def get_thread_pool(self) -> ThreadPool:
        """Return the thread pool; gunicorn's own does not suit requests that wait for each other."""
        return ThreadPool(self.cfg.threads)

    def load_wsgi(self) -> None:
        """Load the models, however long it takes, and send heartbeats: gunicorn kills a worker that is silent for its
        timeout."""
        loaded = threading.Event()

        def notify() -> None:
            while not loaded.wait(TICK_SECONDS):
                self.notify()

        threading.Thread(target=notify, name="loading", daemon=True).start()
        try:
            super().load_wsgi()
        finally:
            loaded.set()
        self._policy: Policy | None = getattr(self.wsgi, "extensions", {}).get("request_policy")
        self._max_waiting = self.cfg.threads - min(RESERVED_THREADS, self.cfg.threads // 4)

    def run(self) -> None:
        """Serve until shutdown; then answer the requests that were sent before it."""
        settings = read_settings()
        self.worker_connections = raise_file_limit(self.worker_connections)
        self._listeners = [Listener(socket, self.cfg, settings, self.log) for socket in self.sockets]
        COUNTS.set(self.age, 0)
        self._serves[0] = 1
        self.poller.register(self.method_queue.fileno(), EVENT_READ, self.method_queue.run_callbacks)
        while self.alive and self.is_parent_alive():  # without the master, another server may need the port
            self._take_turn(self._watch_listeners())
        self.alive = False
        self._stop_accepting()
        until = time.monotonic() + self.cfg.graceful_timeout
        while self.nr_conns and time.monotonic() < until:
            self._take_turn(LAST_SECONDS / 4)
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()

    def _take_turn(self, seconds: float) -> None:
        """Wait for events for at most ``seconds``, and process them."""
        self.notify()
        self.wait_for_and_dispatch_events(0.0 if self._turns else seconds)
        for _ in range(len(self._turns)):
            self._go_on(self._turns.popleft())
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            for conn in self._waiting_for_data():
                if now > conn.deadline or (conn.is_idle and now > self._idle_until) or conn.awaits_admission:
                    self._go_on(conn, True)

    def _waiting_for_data(self) -> list[Connection]:
        return [conn for conn in self._connections if conn.pause is Pause.DATA]

    def _watch_listeners(self) -> float:
        """Watch the listeners, unless there are too many connections or other processes should accept the next ones.

        :returns: seconds until the next check.
        """
        is_full = self.nr_conns >= self.worker_connections
        for listener in self._listeners:
            if is_full or listener.is_exhausted:
                self._evict()
            listener.watch(self.poller, not is_full, partial(self._accept, listener))
        closed = [listener.seconds_closed() for listener in self._listeners if not listener.is_watched]
        return TICK_SECONDS if is_full else min([TICK_SECONDS, *closed])

    def _accept(self, listener: Listener, _: Any = None) -> None:
        """Accept pending connections, except those left to other processes."""
        for _ in range(self.cfg.backlog):  # bounded in case connections keep coming
            stays = self.alive and (self.nr_conns >= self.worker_connections or listener.should_yield(self.nr_conns))
            if stays or (conn := listener.accept()) is None:
                return
            self._connections[conn] = steps = self._serve(conn)
            self._count(1)
            next(steps)
            self._go_on(conn)  # most requests arrive with their connection

    def _stop_accepting(self) -> None:
        """Accept the connections that are already pending, and close the listeners."""
        COUNTS.remove(self.age)
        self._idle_until = time.monotonic() + LAST_SECONDS
        for listener in self._listeners:
            listener.watch(self.poller, False, self._accept)
            self._accept(listener)
            listener.close()

    def _count(self, step: int) -> None:
        self.nr_conns += step
        if self.alive:
            COUNTS.set(self.age, self.nr_conns)

    def _evict(self) -> None:
        """Close one connection in favour of new ones: a lingering one first, then the longest idle, then the one that
        has been sending longest. Connections younger than :data:`EVICTABLE_SECONDS` are spared."""
        latest = time.monotonic() - EVICTABLE_SECONDS
        if old := [conn for conn in self._waiting_for_data() if conn.since < latest]:
            self._go_on(min(old, key=lambda conn: (not conn.lingers, not conn.is_idle, conn.since)), True)

    def _go_on(self, conn: Connection, result: Any = False, error: BaseException | None = None) -> None:
        """Run the generator of a connection until it waits again; close the connection if the generator has ended.

        :param result: what it has waited for; ``error`` is raised in its place.
        """
        conn.pause, steps = None, self._connections[conn]
        try:
            pause = steps.send(result) if error is None else steps.throw(error)
        except StopIteration:
            self._close(conn)
        except BaseException as failure:
            if failure is not error and isinstance(failure, SystemExit) and not self.alive:
                raise  # from a signal handler
            if not isinstance(failure, OSError):  # with OSError, the client has gone
                self.log.error("A request ended its connection.", exc_info=failure)
            self._close(conn)
        else:
            self._wait(conn, pause)

    def _wait(self, conn: Connection, pause: Pause | Work) -> None:
        """Let a connection go on when what it waits for is there."""
        if not isinstance(pause, Pause):
            self._unpoll(conn)
            self.tpool.submit(partial(self._work, conn, pause))
        elif pause is Pause.TURN or conn.has_pending:
            self._turns.append(conn)
        else:
            conn.pause = pause
            if not conn.polled:
                conn.polled = True
                self.poller.register(conn.sock, EVENT_READ, partial(self._on_readable, conn))

    def _on_readable(self, conn: Connection, _: Any) -> None:
        if conn.pause is Pause.DATA:  # it may have been closed since the poller reported it
            self._go_on(conn)

    def _work(self, conn: Connection, work: Work) -> None:
        """Run work in a thread of the pool."""
        result = error = None
        try:
            result = work()
        except BaseException as failure:
            error = failure
        self.method_queue.defer(self._go_on, conn, result, error)

    def _unpoll(self, conn: Connection) -> None:
        if conn.polled:
            conn.polled = False
            self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self._unpoll(conn)
        del self._connections[conn]
        self._count(-1)
        conn.close()

    def _serve(self, conn: Connection) -> Steps:
        """Serve a connection until it is to be closed.

        :raises OSError: if the connection is broken.
        """
        try:
            while (yield from self._receive(conn)) and (yield from self._answer(conn)):
                conn.next(self.cfg.keepalive)
        except ParseException as error:
            response = response_to(error)
            client = conn.address[0] if conn.address else "a socket's client"
            self.log.info("refused %s with %d: %.200r", client, response.code, str(error))
            with suppress(OSError):
                conn.send(response.encode())
        conn.linger()
        while not (yield Pause.DATA) and conn.receive() != b"":
            pass
        return False

    def _receive(self, conn: Connection) -> Steps:
        """Receive a request; return False if the application refuses it before its body.

        :raises ParseException: if it is invalid or too slow.
        :raises OSError: if the connection is broken, or was idle for too long.
        """
        expired = False
        while conn.reader.state is not State.WHOLE:
            if conn.awaits_admission and (expired or not conn.reader.is_short):
                if not (yield from self._admit(conn)):
                    return False
            elif expired:
                raise TimeoutError if conn.is_idle else TooSlow("too slow")
            expired = yield Pause.DATA
            if expired and not conn.is_idle:
                continue
            for _ in range(READS):
                data = conn.receive()
                if data is None or conn.feed(data) is not State.BODY:
                    break
            expired = expired and conn.is_idle
        return True

    def _admit(self, conn: Connection) -> Steps:
        """Ask the application whether a request may send its body, and return whether it may."""
        environ: Mapping[str, Any] | None = {}
        if self._policy is not None:
            environ = yield partial(self._ask_admission, conn)
        if environ is None:
            return False
        conn.is_admitted = True
        conn.reader.limit_body(environ.get(MAX_BODY, conn.reader.max_body))
        if conn.reader.expects_continue:
            with suppress(OSError):  # the next read notices that the client has gone
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _ask_admission(self, conn: Connection) -> Mapping[str, Any] | None:
        """Return the environment of an admitted request; refuse any other one."""
        output = Output(conn, at_once=False)
        response, environ = self._call(conn, output, {HEAD_ONLY: True})
        if response.status_code == CONTINUE:
            return environ
        conn.send_all(output.take())
        return None

    def _answer(self, conn: Connection) -> Steps:
        """Answer a request in its turn, and return whether to keep the connection alive."""
        yield Pause.TURN
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        request = conn.reader.request
        cost = self._policy.cost(request.path, request.query, conn.reader.size) if self._policy else Cost.NORMAL
        facts = {ADMITTED: conn.is_admitted, OVERLOADED: cost is Cost.WAITS and self._waiting >= self._max_waiting}
        if cost is Cost.SHORT or facts[OVERLOADED]:
            try:
                with not_blocking():
                    output, keep_alive = self._respond(conn, facts, at_once=False)
            except WouldBlock:
                conn.reader.body.seek(0)
            else:
                if left := conn.send(output):  # the client does not read all of it immediately
                    yield partial(conn.send_all, left)
                return keep_alive
        waits = cost is Cost.WAITS and not facts[OVERLOADED]
        self._waiting += waits
        try:
            done: tuple[bytes, bool] = yield partial(self._respond, conn, facts, at_once=True)
        finally:
            self._waiting -= waits
        return done[1]

    def _respond(self, conn: Connection, facts: Mapping[str, bool], at_once: bool) -> tuple[bytes, bool]:
        """Call the application; return the unsent part of the response, and whether to keep the connection alive.

        :param at_once: whether to send the response, waiting for the client.
        :raises OSError: if the connection is broken.
        :raises WouldBlock: if the request needs a thread of its own and this is the main thread.
        """
        output = Output(conn, at_once)
        try:
            response, _ = self._call(conn, output, facts)
            rest, keep_alive = output.take(), not response.should_close() and self.cfg.keepalive > 0
        except OSError:
            raise
        except Exception:
            self.log.exception("Error handling request %s", conn.reader.request.uri)
            rest, keep_alive = (b"" if output.has_sent else BROKEN.encode()), False
        if at_once:
            conn.send_all(rest)
            rest = b""
        return rest, keep_alive

    def _call(self, conn: Connection, output: Output, facts: Mapping[str, bool]) -> tuple[Response, dict[str, Any]]:
        request, started = conn.reader.request, datetime.now()
        response, environ = create(request, output, conn.address, conn.server, conn.cfg, response_class=HttpResponse)
        environ.update(facts, **{"wsgi.multithread": True, "gunicorn.socket": conn.sock})
        if not self.alive or HEAD_ONLY in facts:
            response.force_close()
        pieces = self.wsgi(environ, response.start_response)
        try:
            for piece in pieces:
                response.write(piece)
            response.close()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        if response.status_code != CONTINUE:
            self.log.access(response, request, environ, datetime.now() - started)
        return response, environ
