"""A client's connection, read and written without blocking, and the listening socket that it comes from."""

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
"""Of a connection at once; of chunked bodies less, as they may consist of chunks of one byte, which take time."""
MIN_BYTES_PER_SECOND = 500
"""By which a client earns more time, as Apache's ``mod_reqtimeout`` has it."""
LINGER_SECONDS = 2.0
"""For a client to close its side, too, before what it has not read yet would be lost."""
BUFFER_BYTES = 2**16
"""Of a response, before it is sent."""
PAUSE_SECONDS = 0.1
"""Between two attempts to accept a connection where the process can have no more."""
YIELD_SECONDS, MAX_YIELD_SECONDS = 0.001, 0.01
"""How long a process that has more connections than another leaves the next one to that, before it looks again; and
before it accepts it after all."""
WARN_SECONDS = 10.0
SPARE_FILES = 128
"""That are opened for other things than connections: pictures, pages, handlers."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """The main thread has it, and is called when there is something to read (``polled``), or the thread that answers.

    :param address: the client's.
    :param server: host and port of the listening socket.
    :param seconds: that the client has for a request, before what it earns.
    """

    def __init__(
        self, cfg: Config, sock: socket.socket, address: Any, server: tuple[str, int], seconds: float, max_body: int
    ) -> None:
        self.cfg, self.sock, self.address, self.server, self.seconds = cfg, sock, address, server, seconds
        sock.setblocking(False)
        with suppress(OSError):  # of sockets in the file system
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
        """Have gunicorn judge a head. What the PROXY protocol said before the first holds for the next ones."""
        self._requests += 1
        request = Request(self.cfg, IterUnreader([head]), self.address, self._requests)
        self._proxy = request.proxy_protocol_info = request.proxy_protocol_info or self._proxy
        return request

    def restart(self, seconds: float) -> None:
        """Give the client so many seconds from now."""
        self.since = time.monotonic()
        self.deadline = self.since + seconds
        self._received = 0

    @property
    def is_idle(self) -> bool:
        """Return whether no request has begun."""
        return self.reader.state is State.NOTHING

    @property
    def has_pending(self) -> bool:
        """Return whether TLS has bytes that were received before, of which no poller tells."""
        return isinstance(self.sock, ssl.SSLSocket) and not self._handshakes and self.sock.pending() > 0

    def receive(self) -> bytes | None:
        """Return what has come, nothing if the client has ended, and None if there is nothing at this moment.

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
        """Read what was received, or that the client has ended; raises as :class:`RequestReader`."""
        if not data:
            self.reader.end()
        if self.reader.state is State.NOTHING:
            self.restart(self.seconds)
        self._received += len(data)
        earned = self.since + self.seconds + self._received / MIN_BYTES_PER_SECOND
        self.deadline = min(earned, time.monotonic() + self.seconds)
        return self.reader.feed(data)

    def next(self, seconds: float) -> State:
        """Go on to the next request, for whose first byte the client has so many seconds; raises as
        :class:`RequestReader`."""
        self.is_admitted = False
        state = self.reader.next()
        self.restart(seconds if state is State.NOTHING else self.seconds)
        return state

    def send(self, data: bytes) -> bytes:
        """Send what can be sent without waiting; return what is left.

        :raises OSError: if the connection is broken.
        """
        try:
            return data[self.sock.send(data) :]
        except NOT_YET:
            return data

    def send_all(self, data: bytes) -> None:
        """Send, waiting for a client that is slow, but not for one that takes nothing.

        :raises OSError: if the connection is broken, as ``TimeoutError``.
        """
        self.sock.settimeout(self.seconds)
        try:
            view = memoryview(data)
            while view:
                view = view[self.sock.send(view) :]
        finally:
            self.sock.settimeout(0)

    def linger(self) -> None:
        """Send nothing more, and wait for the client to do the same: closed at once, the kernel would take back what
        the client has not read yet (RFC 9112, section 9.6).

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
    """What gunicorn takes for the socket of a response: pieces are put together, and sent in as few as possible."""

    def __init__(self, connection: Connection, at_once: bool) -> None:
        """:param at_once: whether a long response is sent as it comes; else nothing is sent."""
        self._connection = connection
        self._at_once = at_once
        self.has_sent = False
        self._pieces: list[bytes] = []
        self._size = 0

    def sendall(self, data: bytes) -> None:
        """Take a piece; raises as :meth:`Connection.send_all`."""
        self._pieces.append(data)
        self._size += len(data)
        if self._at_once and self._size > BUFFER_BYTES:
            self.has_sent = True
            self._connection.send_all(self.take())

    def take(self) -> bytes:
        """Return what is not sent, and forget it."""
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return data


class Listener:
    """A listening socket, whose connections speak TLS or do not."""

    def __init__(self, listener: Any, cfg: Config, settings: Settings, log: Any) -> None:
        self._listener, self._settings, self._log = listener, settings, log
        name = listener.getsockname()
        plain = cfg.is_ssl and not speaks_https(name, settings)
        self._cfg = _without_certificate(cfg) if plain else cfg
        # gunicorn would take the port of a socket in the file system from the Host header, which is the client's to
        # choose; and by the port it is known whether a request came to management
        port = settings.management_port if f"unix:{name}" == settings.management_host else settings.port
        self._name = ("localhost", port) if isinstance(name, str) else name
        self._opens_at = self._warns_at = self._yields_since = 0.0
        self.is_watched = False
        listener.setblocking(False)

    def seconds_closed(self) -> float:
        """Return how many seconds no connection is to be accepted yet."""
        return max(0.0, self._opens_at - time.monotonic())

    def watch(self, poller: BaseSelector, enabled: bool, callback: Callable[[Any], None]) -> None:
        """Have ``callback`` called when there are connections, or do not."""
        enabled = enabled and time.monotonic() >= self._opens_at
        if enabled != self.is_watched:
            self.is_watched = enabled
            if enabled:
                poller.register(self._listener, EVENT_READ, callback)
            else:
                poller.unregister(self._listener)

    def accept(self) -> Connection | None:
        """Accept the next connection; None if there is none, or the process can have no more."""
        while True:
            try:
                sock, address = self._listener.accept()
                limits = self._settings.client_timeout, self._settings.max_request_bytes
                return Connection(self._cfg, sock, address, self._name, *limits)
            except BlockingIOError:
                return None
            except OSError as error:  # others: the client has gone already
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    return None

    def should_yield(self, connections: int) -> bool:
        """Return whether the next connection is to be left to a process that has fewer, which it is for a moment."""
        # of some sockets, and systems, it is unknown how many wait
        if COUNTS.should_accept(connections, max(1, self._listener.get_backlog())):
            return False
        now = time.monotonic()
        if now > self._opens_at + MAX_YIELD_SECONDS:  # it is long since the last one was left
            self._yields_since = now
        elif now > self._yields_since + MAX_YIELD_SECONDS:
            self._yields_since = now
            return False
        self._opens_at = now + YIELD_SECONDS
        return True

    @property
    def is_exhausted(self) -> bool:
        """Return whether the process could not have the last connection that came."""
        return self.seconds_closed() > YIELD_SECONDS

    def _pause(self, error: OSError) -> None:
        now = time.monotonic()
        self._opens_at = now + PAUSE_SECONDS
        if now > self._warns_at:
            self._warns_at = now + WARN_SECONDS
            self._log.warning("No more connections for the moment: %s. Clients wait.", error.strerror)

    def close(self) -> None:
        """Accept nothing more."""
        self._listener.close()


def raise_file_limit(connections: int) -> int:
    """Raise the limit of open files as far as so many connections take, and may be; return how many there can be."""
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
