"""Client connections, read and written without blocking, and the listening sockets that accept them."""

from __future__ import annotations

import copy
import errno
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from selectors import EVENT_READ, BaseSelector
from typing import Any

from gunicorn.config import Config
from gunicorn.http import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.sock import ssl_wrap_socket

from app.server.addresses import speaks_https
from app.server.connection_balance import COUNTS
from app.server.request_reader import RequestReader, State
from app.settings import Settings

READ_BYTES, CHUNKED_READ_BYTES = 2**18, 2**14
"""Bytes per read. Chunked bodies are read in smaller pieces because chunks of one byte are slow to parse."""
MIN_BYTES_PER_SECOND = 500
"""Rate at which received bytes extend a client's deadline, as in Apache's ``mod_reqtimeout``."""
LINGER_SECONDS = 2.0
"""Time for a client to close its side before the kernel discards the response bytes that it has not read."""
BUFFER_BYTES = 2**16
"""Bytes of a response that are buffered before they are sent."""
PAUSE_SECONDS = 0.1
"""Interval between two attempts to accept a connection while the process is out of file descriptors or memory."""
YIELD_SECONDS, MAX_YIELD_SECONDS = 0.001, 0.01
"""Time for which a process with more connections leaves the next one to another before it checks again, and time after
which it accepts the connection regardless."""
WARN_SECONDS = 10.0
SPARE_FILES = 128
"""File descriptors reserved for other uses than connections: images, pages, handlers."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """A client connection, owned by the main thread, which polls it (``polled``), or by the thread that answers a
    request.

    :param address: address of the client.
    :param server: host and port of the listening socket.
    :param seconds: time that the client has for a request; received bytes extend it.
    """

    def __init__(
        self, cfg: Config, sock: socket.socket, address: Any, server: tuple[str, int], seconds: float, max_body: int
    ) -> None:
        self.cfg, self.sock, self.address, self.server, self.seconds = cfg, sock, address, server, seconds
        sock.setblocking(False)
        with suppress(OSError):  # Unix sockets have no such option
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._handshakes = cfg.is_ssl
        if cfg.is_ssl:
            self.sock = ssl_wrap_socket(sock, cfg)
        self._requests = 0
        self._proxy: dict[str, Any] | None = None
        self.reader = RequestReader(self._parse, max_body, cfg.proxy_protocol in ("v2", "auto"))
        self.polled = self.lingers = self.is_admitted = False
        self.restart(seconds)

    def _parse(self, head: bytes) -> Request:
        """Parse a head with gunicorn. The PROXY protocol's header before the first request holds for later requests
        too."""
        self._requests += 1
        request = Request(self.cfg, IterUnreader([head]), self.address, self._requests)
        self._proxy = request.proxy_protocol_info = request.proxy_protocol_info or self._proxy
        return request

    def restart(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now."""
        self.since = time.monotonic()
        self.deadline = self.since + seconds
        self._received = 0

    @property
    def is_idle(self) -> bool:
        """Return whether no request has begun."""
        return self.reader.state is State.NOTHING

    @property
    def has_pending(self) -> bool:
        """Return whether TLS has buffered bytes, which no poller reports."""
        return isinstance(self.sock, ssl.SSLSocket) and not self._handshakes and self.sock.pending() > 0

    def receive(self) -> bytes | None:
        """Return received bytes, empty if the client has closed its side, or None if there are none yet.

        :raises OSError: if the connection is broken.
        """
        try:
            if self._handshakes:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self._handshakes = False
            return self.sock.recv(CHUNKED_READ_BYTES if self.reader.is_chunked else READ_BYTES)
        except NOT_YET:
            return None

    def feed(self, data: bytes) -> State:
        """Pass received bytes, or the end of the stream, to the reader; raise the errors of :class:`RequestReader`."""
        if not data:
            self.reader.end()
        if self.reader.state is State.NOTHING:
            self.restart(self.seconds)
        self._received += len(data)
        earned = self.since + self.seconds + self._received / MIN_BYTES_PER_SECOND
        self.deadline = min(earned, time.monotonic() + self.seconds)
        return self.reader.feed(data)

    def next(self, seconds: float) -> State:
        """Start the next request, whose first byte must arrive within ``seconds``; raise the errors of
        :class:`RequestReader`."""
        self.is_admitted = False
        state = self.reader.next()
        self.restart(seconds if state is State.NOTHING else self.seconds)
        return state

    def send(self, data: bytes) -> bytes:
        """Send as much as possible without blocking; return the rest.

        :raises OSError: if the connection is broken.
        """
        try:
            return data[self.sock.send(data) :]
        except NOT_YET:
            return data

    def send_all(self, data: bytes) -> None:
        """Send all data, waiting for a slow client, but not for a client that reads nothing.

        :raises OSError: if the connection is broken; ``TimeoutError`` if the client reads nothing.
        """
        self.sock.settimeout(self.seconds)
        try:
            view = memoryview(data)
            while view:
                view = view[self.sock.send(view) :]
        finally:
            self.sock.settimeout(0)

    def linger(self) -> None:
        """Close the sending side, and wait for the client to close its own. An immediate close would make the kernel
        discard what the client has not read yet (RFC 9112, section 9.6).

        :raises OSError: if the connection is broken.
        """
        self.lingers = True
        self.sock.shutdown(socket.SHUT_WR)
        self.restart(LINGER_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self.reader.close()
        with suppress(OSError):
            self.sock.close()


class Output:
    """A buffer that gunicorn uses as a response's socket: pieces are joined to send as few as possible."""

    def __init__(self, connection: Connection, at_once: bool) -> None:
        """:param at_once: whether a long response is sent as it is produced; otherwise nothing is sent."""
        self._connection = connection
        self._at_once = at_once
        self.has_sent = False
        self._pieces: list[bytes] = []
        self._size = 0

    def sendall(self, data: bytes) -> None:
        """Append a piece; raise the errors of :meth:`Connection.send_all`."""
        self._pieces.append(data)
        self._size += len(data)
        if self._at_once and self._size > BUFFER_BYTES:
            self.has_sent = True
            self._connection.send_all(self.take())

    def take(self) -> bytes:
        """Return the unsent bytes, and clear the buffer."""
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return data


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
