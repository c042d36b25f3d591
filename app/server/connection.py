"""Client connections, read and written without blocking."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import Any

from gunicorn.config import Config
from gunicorn.http import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.sock import ssl_wrap_socket

from app.server.request_reader import RequestReader, State

READ_BYTES, CHUNKED_READ_BYTES = 2**18, 2**14
"""Bytes per read. Chunked bodies are read in smaller pieces because chunks of one byte are slow to parse."""
MIN_BYTES_PER_SECOND = 500
"""Rate at which received bytes extend a client's deadline, as in Apache's ``mod_reqtimeout``."""
LINGER_SECONDS = 2.0
"""Time for a client to close its side before the kernel discards the response bytes that it has not read."""
BUFFER_BYTES = 2**16
"""Bytes of a response that are buffered before they are sent."""
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """A client connection, owned by the main thread, or by the thread that answers a request.

    ``pause`` and ``polled`` are the worker's: what the connection waits for, and whether the poller reports its data.

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
        self.pause: object = None
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
    def awaits_admission(self) -> bool:
        """Return whether a request has begun its body, and the application has not yet decided about it."""
        return self.reader.state is State.BODY and not (self.is_admitted or self.lingers)

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
        """Pass received bytes, or the end of the stream, to the reader; raise the errors of :class:`RequestReader`.

        :raises ConnectionResetError: at the end of the stream, if no response is due.
        """
        if not data and self.is_idle:
            raise ConnectionResetError
        if not data:
            self.reader.end()
        if self.is_idle:
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
        for item in (self.reader, self.sock):
            with suppress(OSError):  # of the body, too: its last bytes may not fit on the disk
                item.close()


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
