"""Connections from an HTTP worker to the backend process: one per call at a time, reused by later calls."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from app.backend.batching import IsDisconnected, QueueResult, never_disconnected
from app.backend.protocol import FLOAT_BYTES, Channel, Disconnected, Kind, SharedBuffer, error_from
from app.errors import ClientClosedRequest, EngineUnavailable
from app.types import FloatArray

RESTART_SECONDS = 30.0
"""Seconds that a call waits for an ended backend process to be restarted."""
CHANGE_SECONDS = 3600.0
"""Timeout of a change in seconds. It may install packages and load code."""
LOOK_SECONDS = 0.25
"""Seconds between two checks of a waiting call for a disconnected client."""
PAUSE_SECONDS = 0.02
IDLE_SECONDS = 3.0
"""Seconds after which an idle connection is closed. The last one of a pool stays: it keeps the network loaded."""
MOST_ENDS = 2
"""Maximum number of times that the backend process may end during one request. The request may be the cause."""
MOST_HANG_UPS = 8
"""Maximum number of connections that may break during one request. Connections of one ending process break at different
times, and may be tried in between."""

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class BackendUnavailable(Exception):
    """Raised if no backend process answers."""


class BackendDied(Exception):
    """Raised if the backend process has ended. ``process`` is its process id."""

    def __init__(self, process: int, reason: object) -> None:
        super().__init__(str(reason))
        self.process = process


class Connection:
    """A connection to the backend process. It is used by one thread at a time.

    :param deadline: time on the monotonic clock until which to wait for a backend process that accepts it.
    :raises BackendUnavailable: if no backend process accepts it by then, or none ever will.
    """

    def __init__(self, address: bytes, deadline: float) -> None:
        while not self._connect(address, deadline):
            time.sleep(PAUSE_SECONDS)
        self._buffer: SharedBuffer | None = None
        self.is_pending = False
        """Whether the response of a call has not arrived completely."""
        self.row_shape: tuple[int, ...] = ()
        self.idle_since = 0.0

    def _connect(self, address: bytes, deadline: float) -> bool:
        """Connect to a live backend process; return False if another attempt may succeed."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(address)
            connection.setblocking(True)
            self._channel = Channel(connection)
            if not self._channel.is_readable(deadline - time.monotonic()):
                raise BackendUnavailable("no process accepts connections")
            _, text, length, self.process, *_ = self._channel.receive(Kind.HELLO)
            self._channel.read(text, length)
            return True
        except BaseException as error:
            connection.close()
            # the process ended, or the backlog is full
            if isinstance(error, Disconnected | BlockingIOError) and time.monotonic() <= deadline:
                return False
            if isinstance(error, Disconnected | OSError):
                raise BackendUnavailable(str(error)) from None
            raise

    def is_over(self) -> bool:
        """Return whether the backend process has hung up. Call this only while no response is pending."""
        return self._channel.is_readable()

    def call(
        self,
        op: str,
        arguments: dict[str, Any],
        blobs: Sequence[bytes] = (),
        seconds: float = CHANGE_SECONDS,
        is_disconnected: IsDisconnected = never_disconnected,
    ) -> tuple[Any, list[bytes]]:
        """Call an operation of the backend.

        :param seconds: timeout of the response.
        :raises DimpleError: the error that the operation raises.
        :raises BackendDied: if the backend process has ended or has not answered in time.
        :raises ClientClosedRequest: if the client disconnects meanwhile.
        """
        with self._pending():
            self._channel.send(Kind.CALL, {"op": op, **arguments}, blobs)
            self._wait(seconds, is_disconnected)
            kind, text, length, *_ = self._channel.receive(Kind.DONE, Kind.FAILED)
            document, parts = self._channel.read(text, length)
        if kind is Kind.FAILED:
            raise error_from(document)
        return document, parts

    def compute(
        self, rows: FloatArray, generation: int, timeout: float, is_disconnected: IsDisconnected
    ) -> QueueResult[FloatArray]:
        """Compute float32 rows (N, …) in the backend process: (N, classes).

        :param timeout: seconds that the rows may wait in the queue.
        :raises DimpleError: as :meth:`app.backend.networks.Network.submit`.
        :raises BackendDied: as :meth:`call`; also ClientClosedRequest.
        """
        with self._pending():
            size = FLOAT_BYTES * rows.size
            if self._buffer is None or size > self._buffer.size:
                self._buffer = self._channel.send_buffer(size)
            self._buffer.rows(len(rows), self.row_shape)[...] = rows
            self._channel.ask(len(rows), generation, timeout)
            if is_disconnected is not never_disconnected:
                self._wait(timeout + CHANGE_SECONDS, is_disconnected)
            kind, count, length, _, waited, computed = self._channel.receive(Kind.ANSWER, Kind.FAILED)
            if kind is Kind.ANSWER:
                found = self._channel.read_rows(count, length)
            else:
                document, _ = self._channel.read(count, length)
        if kind is Kind.FAILED:
            raise error_from(document)
        return QueueResult(found, waited, computed)

    @contextmanager
    def _pending(self) -> Iterator[None]:
        """Mark the connection as pending until the response of a call has arrived.

        :raises BackendDied: if the backend process hangs up meanwhile.
        """
        self.is_pending = True
        try:
            yield
        except Disconnected as error:
            raise BackendDied(self.process, error) from None
        self.is_pending = False

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _wait(self, seconds: float, is_disconnected: IsDisconnected) -> None:
        """Wait for the response.

        :raises ClientClosedRequest: if the client has disconnected; the connection is unusable afterwards.
        :raises Disconnected: if no response comes in time.
        """
        deadline = time.monotonic() + seconds
        while not self._channel.is_readable(min(LOOK_SECONDS, deadline - time.monotonic())):
            if is_disconnected():
                raise ClientClosedRequest("")
            if time.monotonic() >= deadline:
                raise Disconnected(f"no answer came within {seconds:.0f} s")


class ConnectionPool:
    """A pool of connections for concurrent calls from any thread. A call that was unanswered when the backend process
    ended is retried on its successor.

    A connection costs both processes a thread, a socket and a piece of memory, so surplus ones do not stay after a
    burst of calls.

    :param prepare: function called with each new connection.
    """

    def __init__(self, address: bytes, prepare: Callable[[Connection], object] = lambda connection: None) -> None:
        self._address = address
        self._prepare = prepare
        self._lock = threading.Lock()
        self._idle: deque[Connection] = deque()  # the last used one last
        self._will_trim = False
        self._keeps_idle = True
        self._closed = False

    def run(
        self, work: Callable[[Connection], Result], patience: float = RESTART_SECONDS, again: bool = True
    ) -> Result:
        """Call a function with a connection.

        :param patience: seconds to wait for a backend process that accepts connections.
        :param again: whether the function may be retried.
        :raises EngineUnavailable: if no backend process answers, or it ended during the call.
        """
        ended: set[int] = set()
        hung_up = 0
        while True:
            try:
                connection = self._take(patience)
                try:
                    return work(connection)
                finally:
                    self._put_back(connection)
            except BackendUnavailable as error:
                raise EngineUnavailable(f"no process answers ({error})") from None
            except BackendDied as end:
                ended.add(end.process)
                hung_up += 1
                log.info("process %d, the backend, ended over a call: %s", end.process, end)
                if not again or len(ended) >= MOST_ENDS or hung_up > MOST_HANG_UPS:
                    raise EngineUnavailable(f"it ended {len(ended)} times over this request") from None

    def release(self) -> None:
        """Close idle connections from now on."""
        with self._lock:
            self._keeps_idle = False
            while self._idle:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all idle connections; close the others when their calls end."""
        self._closed = True
        self.release()

    def _take(self, patience: float) -> Connection:
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_over():
                    return connection
                connection.close()
        connection = Connection(self._address, time.monotonic() + patience)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        """Keep a connection for the next call, unless its own call is still under way."""
        with self._lock:
            if self._keeps_idle and not connection.is_pending:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                self._trim_later()
                return
        connection.close()

    def _trim_later(self) -> None:
        if len(self._idle) > 1 and not self._will_trim:
            timer = threading.Timer(IDLE_SECONDS, self._trim)
            timer.daemon = True
            with suppress(RuntimeError):  # the system cannot start another thread
                timer.start()
                self._will_trim = True

    def _trim(self) -> None:
        """Close the connections that the calls of the last seconds did not need, except one."""
        with self._lock:
            self._will_trim = False
            latest = time.monotonic() - IDLE_SECONDS
            while len(self._idle) > 1 and self._idle[0].idle_since <= latest:
                self._idle.popleft().close()
            self._trim_later()
