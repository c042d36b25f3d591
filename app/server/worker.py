"""gunicorn's threaded worker, except that a thread gets only requests that have arrived completely.

The main thread owns every connection that has no request in processing. It reads without blocking, answers short
requests itself, one after the other, and submits all other requests to the thread pool. Under the interpreter lock, a
hand-over costs as much as a short request. Slow or silent clients occupy no thread.

The pool runs a limited number of requests that may wait long, for example for a slow model. The application refuses
further ones immediately (503), so that threads remain for other requests.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.http.wsgi import Response, create
from gunicorn.workers.gthread import ThreadWorker

from app.server.connection import Connection, Listener, Output, raise_file_limit
from app.server.connection_balance import COUNTS
from app.server.parse_errors import BROKEN, TOO_SLOW, ErrorResponse, response_to
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
        self._connections: dict[Connection, None] = {}
        self._arrived: deque[Connection] = deque()  # with complete requests
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
        self.wait_for_and_dispatch_events(0.0 if self._arrived else seconds)
        for _ in range(len(self._arrived)):
            self._dispatch(self._arrived.popleft())
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            for conn in [connection for connection in self._connections if connection.polled]:
                if now > conn.deadline or (conn.is_idle and now > self._idle_until):
                    self._expire(conn)
                elif conn.reader.state is State.BODY and not (conn.is_admitted or conn.lingers):
                    self._admit(conn)  # its short body has not followed the head at once

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
            self._connections[conn] = None
            self._count(1)
            self._read(conn)

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

    def _read(self, conn: Connection, _: Any = None) -> None:
        """Read what a connection has received, and process it."""
        if conn not in self._connections or (conn.reader.state is State.WHOLE and not conn.lingers):
            return  # closed after the poller reported it, or its request waits for its turn
        try:
            for _ in range(READS):
                data = conn.receive()
                if data is None or not self._take(conn, data):
                    break
        except OSError:
            self._close(conn)
        else:
            self._go_on(conn)

    def _take(self, conn: Connection, data: bytes) -> bool:
        """Process received bytes; return whether more should be read immediately.

        :raises ConnectionResetError: if the client has closed the connection and no response is due.
        """
        if not data and (conn.lingers or conn.is_idle):
            raise ConnectionResetError
        if conn.lingers:
            return True
        try:
            return conn.feed(data) is State.BODY
        except (ParseException, OSError) as error:
            self._refuse(conn, response_to(error), error)
            return False

    def _go_on(self, conn: Connection) -> None:
        state = conn.reader.state
        arrives = state is State.BODY and (conn.is_admitted or conn.reader.is_short)
        if conn.lingers or arrives or state in (State.NOTHING, State.HEAD):
            self._poll(conn)
        elif state is State.WHOLE:
            self._arrived.append(conn)
        else:
            self._admit(conn)

    def _admit(self, conn: Connection) -> None:
        """Ask the application whether a request may send its body."""
        if self._policy is None:
            self._invite(conn, {})
        else:
            self._in_pool(conn, partial(self._ask_admission, conn))

    def _dispatch(self, conn: Connection) -> None:
        """Answer a request that has arrived, or submit it to the pool."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        request = conn.reader.request
        cost = self._policy.cost(request.path, request.query, conn.reader.size) if self._policy else Cost.NORMAL
        facts = {ADMITTED: conn.is_admitted, OVERLOADED: cost is Cost.WAITS and self._waiting >= self._max_waiting}
        waits = cost is Cost.WAITS and not facts[OVERLOADED]
        if cost is Cost.SHORT or facts[OVERLOADED]:
            try:
                with not_blocking():
                    output, keep_alive = self._respond(conn, facts, at_once=False)
            except WouldBlock:
                conn.reader.body.seek(0)
            except BaseException as error:
                if not self.alive and isinstance(error, SystemExit):
                    raise  # from a signal handler
                self._give_up(conn, error)
                return
            else:
                self._send(conn, output, keep_alive)
                return
        self._in_pool(conn, partial(self._answer, conn, facts), waits)

    def _send(self, conn: Connection, output: bytes, keep_alive: bool) -> None:
        """Send a short response; a thread sends the rest if the client does not read all of it immediately."""
        try:
            left = conn.send(output)
        except OSError:
            self._close(conn)
            return
        if left:
            self._in_pool(conn, partial(self._send_rest, conn, left, keep_alive))
        else:
            self._finish(conn, keep_alive)

    def _in_pool(self, conn: Connection, work: Callable[[], Callable[[], None]], waits: bool = False) -> None:
        """Run ``work`` for a connection in the pool, and the callable that it returns in the main thread."""
        self._unpoll(conn)
        self._waiting += waits

        def run() -> None:
            try:
                then = work()
            except BaseException as error:
                then = partial(self._give_up, conn, error)
            self.method_queue.defer(self._after, then, waits)

        self.tpool.submit(run)

    def _give_up(self, conn: Connection, error: BaseException) -> None:
        """Close a connection whose client has gone or whose request failed in its thread; the worker goes on."""
        if not isinstance(error, OSError):
            self.log.error("A request ended its connection.", exc_info=error)
        self._close(conn)

    def _after(self, then: Callable[[], None], waits: bool) -> None:
        self._waiting -= waits
        then()

    def _answer(self, conn: Connection, facts: Mapping[str, bool]) -> Callable[[], None]:
        output, keep_alive = self._respond(conn, facts, at_once=True)
        return self._send_rest(conn, output, keep_alive)

    def _send_rest(self, conn: Connection, output: bytes, keep_alive: bool) -> Callable[[], None]:
        conn.send_all(output)
        return partial(self._finish, conn, keep_alive)

    def _ask_admission(self, conn: Connection) -> Callable[[], None]:
        output = Output(conn, at_once=False)
        response, environ = self._call(conn, output, {HEAD_ONLY: True})
        if response.status_code == CONTINUE:
            return partial(self._invite, conn, environ)
        return self._send_rest(conn, output.take(), keep_alive=False)

    def _invite(self, conn: Connection, environ: Mapping[str, Any]) -> None:
        """Let the client send the body of a request."""
        conn.is_admitted = True
        try:
            conn.reader.limit_body(environ.get(MAX_BODY, conn.reader.max_body))
        except ParseException as error:
            self._refuse(conn, response_to(error), error)
            return
        if conn.reader.expects_continue:
            with suppress(OSError):  # the next read notices that the client has gone
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._poll(conn)

    def _respond(self, conn: Connection, facts: Mapping[str, bool], at_once: bool) -> tuple[bytes, bool]:
        """Call the application; return the unsent part of the response, and whether to keep the connection alive.

        :raises OSError: if the connection is broken.
        :raises WouldBlock: if the request needs a thread of its own and this is the main thread.
        """
        output = Output(conn, at_once)
        try:
            response, _ = self._call(conn, output, facts)
            return output.take(), not response.should_close() and self.cfg.keepalive > 0
        except OSError:
            raise
        except Exception:
            self.log.exception("Error handling request %s", conn.reader.request.uri)
            return (b"" if output.has_sent else BROKEN.encode()), False

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

    def _finish(self, conn: Connection, keep_alive: bool) -> None:
        """Keep a connection alive for its next request, or close it, after a response."""
        if not keep_alive:
            self._linger(conn)
            return
        try:
            conn.next(self.cfg.keepalive)
        except (ParseException, OSError) as error:
            self._refuse(conn, response_to(error), error)
        self._go_on(conn)

    def _expire(self, conn: Connection) -> None:
        """Close an expired connection: a lingering one at once, an idle one unless it has sent something meanwhile, any
        other one after an error response."""
        if conn.lingers:
            self._close(conn)
        elif not conn.is_idle:
            self._refuse(conn, TOO_SLOW, "too slow")
        else:
            self._read(conn)
            if conn in self._connections and conn.is_idle:
                self._close(conn)

    def _evict(self) -> None:
        """Close one connection to make room: a lingering one first, then the longest idle, then the one that has been
        sending longest. Connections younger than :data:`EVICTABLE_SECONDS` are spared."""
        latest = time.monotonic() - EVICTABLE_SECONDS
        expired = [conn for conn in self._connections if conn.polled and conn.since < latest]
        if expired:
            self._expire(
                min(expired, key=lambda item: (not item.lingers, item.reader.state is not State.NOTHING, item.since))
            )

    def _refuse(self, conn: Connection, response: ErrorResponse, reason: object) -> None:
        """Send an error response, and ignore all further bytes of the connection."""
        client = conn.address[0] if conn.address else "a socket's client"
        self.log.info("refused %s with %d: %.200r", client, response.code, str(reason))
        with suppress(OSError):
            conn.send(response.encode())
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        try:
            conn.linger()
        except OSError:
            self._close(conn)
        else:
            self._poll(conn)

    def _poll(self, conn: Connection) -> None:
        """Read a connection when it becomes readable."""
        if conn.has_pending:
            self.method_queue.defer(self._read, conn)
        if not conn.polled and conn in self._connections:
            conn.polled = True
            self.poller.register(conn.sock, EVENT_READ, partial(self._read, conn))

    def _unpoll(self, conn: Connection) -> None:
        if conn.polled:
            conn.polled = False
            self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        if conn in self._connections:
            self._unpoll(conn)
            del self._connections[conn]
            self._count(-1)
            conn.close()
