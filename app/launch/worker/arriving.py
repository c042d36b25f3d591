"""A connection on which a request arrives: how much of it must be there before a thread is given to it, and how long
its client may take.

A thread that waits for a slow client answers nobody else, and there are only so many. So the thread that leads, which
waits for all connections at once, takes in a request's head and the beginning of its body, and answers, or hands over,
what is whole.
"""

from __future__ import annotations

import enum
import errno
import re
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.sock import ssl_wrap_socket
from gunicorn.workers.gthread import TConn

from app.launch.worker.refusals import Refusal

PIECE = 2**18
"""Bytes that are read at once: most pictures that have arrived, so that they need not be looked for twice."""
ENOUGH = 2**16
"""Bytes of a body after which its client has shown that it sends: a thread reads the rest. Most pictures are whole by
then."""
LONGEST_HEAD = 2**16
"""What is longer is handed over as it is: the parser says what is wrong with it."""
LEAST_RATE = 500
"""Bytes a second by which a client earns more time, as Apache's ``mod_reqtimeout`` has it."""

TOO_SLOW = Refusal(
    408, "Request Timeout", "RequestTimeout", "The request did not come in time: DIMPLE_CLIENT_TIMEOUT has the limit."
)
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r)", re.IGNORECASE)


def is_whole(data: bytes | bytearray) -> bool:
    """Whether a thread can go on with what has arrived of a request: it waits for little more, or nothing.

    Only a guess is made here of where the request ends; what it says is the parser's to find out.
    """
    head = data.find(_END)
    return (head >= 0 and len(data) - head - len(_END) >= ENOUGH) or is_complete(data)


def is_complete(data: bytes | bytearray) -> bool:
    """Whether all of a request has arrived, as far as can be guessed."""
    head = data.find(_END)
    if head < 0:
        return len(data) > LONGEST_HEAD
    body = len(data) - head - len(_END)
    if length := _LENGTH.search(data, 0, head + 2):
        return body >= int(length[1])
    return not _CHUNKED.search(data, 0, head) or (body > 0 and data.endswith(_END))


class State(enum.Enum):
    """What the thread that leads is to do with a connection."""

    WAIT = enum.auto()
    """Wait for more."""
    READY = enum.auto()
    """Give it to a thread."""
    GONE = enum.auto()
    """Close it: its client has, and asks nothing."""


class Arrival:
    """What has come of a request, and since when."""

    def __init__(self, seconds: float) -> None:
        """:param seconds: that the client has, with those that it earns by what it sends."""
        self.seconds = seconds
        self.data = bytearray()
        self.begin()

    def begin(self) -> None:
        """The client's time begins."""
        self.begun = time.monotonic()
        self.bytes = 0

    @property
    def deadline(self) -> float:
        """By the monotonic clock."""
        return self.begun + self.seconds + self.bytes / LEAST_RATE

    def add(self, piece: bytes) -> None:
        """Another piece has come."""
        self.data += piece
        self.bytes += len(piece)

    def invitation_is_due(self) -> bool:
        """Whether the client waits to be asked for the body. To be called once a head: what says so is taken out of
        it, or gunicorn would ask a second time."""
        head = self.data.find(_END)
        found = _EXPECT.search(self.data, 0, head + 2) if head >= 0 else None
        if found is None:
            return False
        del self.data[found.start() : found.end()]
        return True


class Unreader(SocketUnreader):  # type: ignore[misc]
    """Where the parser reads: first what has arrived, then from the connection, as long as its client has time."""

    def __init__(self, connection: socket.socket, arrival: Arrival) -> None:
        super().__init__(connection, PIECE)
        self._arrival = arrival

    def chunk(self) -> bytes:
        """The next bytes; none where the client has ended.

        :raises TimeoutError: where its time is over, or nothing comes for as long as it had at first. Its number is
            that of a client that has gone, which is no news to gunicorn.
        """
        arrival = self._arrival
        if time.monotonic() > arrival.deadline:
            raise TimeoutError(errno.ECONNRESET, "the client sends too slowly")
        try:
            piece: bytes = self.sock.recv(self.mxchunk)
        except BlockingIOError:  # what the kernel says then
            raise TimeoutError(errno.ECONNRESET, "the client sends nothing") from None
        arrival.bytes += len(piece)
        return piece


class _WholeReader(LengthReader):  # type: ignore[misc]
    """Reads a body of known length. One that ends early is not whole (RFC 9112, section 8), as gunicorn has it."""

    def read(self, size: int) -> bytes:
        """At most so many bytes; less than that only at the end.

        :raises ConnectionResetError: where the client ends before the body does.
        """
        size = min(self.length, size)
        data: bytes = self.unreader.read(size)
        self.length -= len(data)
        if len(data) < size:
            raise ConnectionResetError(errno.ECONNRESET, "the body ended before its Content-Length")
        return data


class LengthBody(Body):  # type: ignore[misc]
    """A body of known length. gunicorn's own reads 1,024 bytes at a time, and copies the rest of what has arrived each
    time."""

    def __init__(self, unreader: Unreader, length: int) -> None:
        super().__init__(_WholeReader(unreader, length))

    def read(self, size: int | None = None) -> bytes:
        """At most so many bytes, by default all; less than that only at the end.

        :raises ConnectionResetError: where the client ends before the body does.
        """
        if self.buf.tell():  # left by readline
            return bytes(super().read(size))
        return bytes(self.reader.read(self.getsize(size)))


def quick_body(body: Body) -> Body:
    """The same body, read faster, where its length is known and nothing of it is read yet."""
    reader = body.reader
    return LengthBody(reader.unreader, reader.length) if type(reader) is LengthReader and reader.length else body


class Connection(TConn):  # type: ignore[misc]
    """A client's connection. The thread that leads and the one that answers have it in turn, never at once.

    :param seconds: that the client has for a request, before what it earns.
    """

    sock: socket.socket
    initialized: bool

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, seconds: float) -> None:
        super().__init__(cfg, sock, client, server)
        self.arrival = Arrival(seconds)
        self.data_ready = True  # no thread has it before there is something to do
        self.polled = False  # whether somebody is called when there is something to read
        self.tls: bool = cfg.is_ssl
        # a thread that sends, or reads a long body, waits so long for the client to move; the kernel counts
        patience = struct.pack("@ll", max(1, int(seconds)), 0)
        with suppress(OSError):  # it may have gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)

    def init(self) -> None:
        """Make ready to parse what has arrived. gunicorn calls this in a thread, before each request."""
        self.arrival.begin()  # it may have waited for the thread, which is not its client's fault
        if self.tls:  # OpenSSL waits again when the kernel says that it has waited long enough
            self.sock.settimeout(self.arrival.seconds)
        if not self.initialized:
            self.initialized = True
            if self.tls:
                wrapped = ssl_wrap_socket(self.sock, self.cfg)
                self.sock = wrapped
                wrapped.do_handshake()
            self.parser = RequestParser(self.cfg, self.sock, self.client)
            self.parser.unreader = Unreader(self.sock, self.arrival)
        if self.arrival.data:
            self.parser.unreader.unread(self.arrival.data)
            self.arrival.data = bytearray()

    def receive(self) -> State:
        """Take in what has come, without waiting. Of TLS nothing can be seen: a thread reads all of it."""
        arrival = self.arrival
        if self.tls:
            return State.READY
        try:
            piece = self.sock.recv(PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return State.WAIT
        except OSError:
            return State.GONE
        if not piece:
            return State.READY if arrival.data else State.GONE
        if not arrival.data:
            arrival.begin()
        headless = _END not in arrival.data
        arrival.add(piece)
        if is_whole(arrival.data):
            return State.READY
        if headless and arrival.invitation_is_due():
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return State.WAIT

    def take_back(self) -> State:
        """After a request: what the parser has read of the next one is put where :meth:`receive` goes on."""
        arrival = self.arrival
        arrival.begin()
        arrival.data += self.parser.unreader.take_buffered()
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return State.READY
        return State.READY if arrival.data and is_whole(arrival.data) else State.WAIT

    def refuse(self) -> None:
        """Tell a client that its time is over."""
        self._send(TOO_SLOW.answer())

    def _send(self, data: bytes) -> None:
        """Send a little, without waiting: who does not take even that gets nothing."""
        with suppress(OSError):
            self.sock.send(data, socket.MSG_DONTWAIT)
