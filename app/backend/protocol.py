"""The messages between HTTP workers and the backend process, on a Unix stream socket.

A message is a head of fixed size, then as many bytes as the head says: a JSON document and byte strings, or the rows of
an answer as they lie in memory. The rows of a question lie in memory that both processes have mapped: through a socket
the rows of a picture (600 kB) would go in pieces, between which the two processes wake each other.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np

from app import errors
from app.errors import DimpleError
from app.types import FloatArray

HEAD = struct.Struct("=BQQQdd")
"""Kind, rows or bytes of JSON, bytes that follow, generation, and two numbers of seconds."""
FLOAT_BYTES = 4
JOINED_BYTES = 2**16
"""Up to this, a message is sent at once."""
BUFFER_BYTES = 2**20
"""Asked of the system, which gives what it allows."""
STALL_SECONDS = 60
"""What a message may take once it has begun."""


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1
    """The backend process has accepted a connection; ``generation`` is its process id."""
    CALL = 2
    """A request with a JSON document (``op`` and its arguments) and byte strings."""
    DONE = 3
    """The answer to it: a JSON document and byte strings."""
    FAILED = 4
    """An error in place of any answer; JSON."""
    BUFFER = 5
    """Memory for rows: a file that goes with the one byte that follows; ``rows`` is its size in bytes."""
    ASK = 6
    """Rows of that memory are to be computed; the first number is how many seconds they may wait."""
    ANSWER = 7
    """The rows that came of them, and the seconds that they waited and were computed."""


class Disconnected(Exception):
    """The other side has ended, or has sent what is no message."""


class SharedBuffer:
    """Memory for float32 rows that two processes have mapped. One writes them, tells the other, and waits.

    :param file: descriptor, which may be closed afterwards.
    :param size: in bytes.
    :raises OSError: if the system does not map it.
    """

    def __init__(self, file: int, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(file, size)

    def rows(self, count: int, row_shape: Sequence[int]) -> FloatArray:
        """Return the first rows, as they lie in it: (count, …).

        :raises ValueError: if they do not fit, or there are none.
        """
        if count < 1 or count * FLOAT_BYTES * prod(row_shape) > self.size:
            raise ValueError(f"{count} rows of the shape {tuple(row_shape)} do not fit into {self.size} bytes")
        return np.frombuffer(self._memory, np.float32, count * prod(row_shape)).reshape(count, *row_shape)


class Channel:
    """One side of a connection. It is used by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))

    def is_readable(self, seconds: float = 0.0) -> bool:
        """Wait until a message comes or the other side hangs up, and return whether that was so in time."""
        return bool(self._readable.poll(max(0.0, seconds) * 1000))

    def wait(self) -> None:
        """Wait for a message, however long that takes."""
        self._readable.poll()

    def send(self, kind: Kind, document: Any = None, blobs: Sequence[bytes] = (), generation: int = 0) -> None:
        """Send a message with a JSON document and byte strings.

        :raises Disconnected: if nobody takes it.
        """
        text = json.dumps({"document": document, "sizes": [len(blob) for blob in blobs]}).encode()
        length = len(text) + sum(map(len, blobs))
        head = HEAD.pack(kind, len(text), length, generation, 0.0, 0.0)
        if length < JOINED_BYTES:
            self._put(b"".join((head, text, *blobs)))
            return
        for part in (head + text, *blobs):
            self._put(part)

    def send_error(self, error: DimpleError) -> None:
        """Send an error, to be raised by :func:`error_from` on the other side."""
        self.send(Kind.FAILED, {"class": type(error).__name__, "args": list(error.args), "state": vars(error)})

    def send_buffer(self, size: int) -> SharedBuffer:
        """Make memory for rows, and hand it to the other side.

        :raises OSError: if the system gives none.
        """
        file = os.memfd_create("dimple-rows")
        try:
            os.truncate(file, size)
            self._put(HEAD.pack(Kind.BUFFER, size, 1, 0, 0.0, 0.0))
            try:
                socket.send_fds(self._socket, [b"."], [file])
            except OSError as error:
                raise Disconnected(str(error)) from None
            return SharedBuffer(file, size)
        finally:
            os.close(file)

    def receive_buffer(self, size: int) -> SharedBuffer:
        """Take the memory that comes after a head of kind BUFFER."""
        try:
            _, files, _, _ = socket.recv_fds(self._socket, 1, 1)
            if not files:
                raise Disconnected("a buffer came without its file")
            try:
                return SharedBuffer(files[0], size)
            finally:
                os.close(files[0])
        except (OSError, ValueError) as error:
            raise Disconnected(str(error)) from None

    def ask(self, count: int, generation: int, timeout: float) -> None:
        """Have the first rows of the buffer computed.

        :param timeout: seconds that they may wait for their turn.
        """
        self._put(HEAD.pack(Kind.ASK, count, 0, generation, timeout, 0.0))

    def answer(self, rows: FloatArray, waited: float, computed: float) -> None:
        """Send float32 rows (N, …) and the seconds that they took."""
        data = np.ascontiguousarray(rows).data.cast("B")
        head = HEAD.pack(Kind.ANSWER, len(rows), rows.nbytes, 0, waited, computed)
        if rows.nbytes < JOINED_BYTES:  # in one piece: the other side wakes once
            self._put(head + data)
            return
        self._put(head)
        self._put(data)

    def receive(self, *kinds: Kind) -> tuple[Kind, int, int, int, float, float]:
        """Read the head of the next message, as :data:`HEAD` has it.

        :raises Disconnected: if none comes, or one of another kind.
        """
        head = bytearray(HEAD.size)
        self._fill(memoryview(head))
        kind, *numbers = HEAD.unpack(head)
        if kind not in kinds:
            raise Disconnected(f"a message of the kind {kind} came; expected {', '.join(kind.name for kind in kinds)}")
        return (Kind(kind), *numbers)

    def read(self, text: int, length: int) -> tuple[Any, list[bytes]]:
        """Read the JSON document and the byte strings after a head.

        :param text: bytes of the JSON.
        :param length: bytes of both together.
        """
        data = bytearray(length)
        self._fill(memoryview(data))
        try:
            header = json.loads(data[:text])
            sizes, start, blobs = header["sizes"], text, []
            for size in sizes:
                blobs.append(bytes(data[start : start + size]))
                start += size
            return header["document"], blobs
        except (ValueError, KeyError, TypeError) as error:
            raise Disconnected(f"what came is no message: {error}") from None

    def read_rows(self, count: int, length: int) -> FloatArray:
        """Read the float32 rows after a head: (count, columns).

        :raises Disconnected: if that is not their length.
        """
        if count < 1 or length % (FLOAT_BYTES * count):
            raise Disconnected(f"{count} rows of {length} bytes came")
        rows: FloatArray = np.empty((count, length // FLOAT_BYTES // count), np.float32)
        self._fill(rows.data.cast("B"))
        return rows

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _put(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Disconnected(str(error)) from None

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError as error:
                raise Disconnected(str(error)) from None
            if not count:
                raise Disconnected("the connection has ended")
            view = view[count:]


def error_from(document: dict[str, Any]) -> DimpleError:
    """Return the error that :meth:`Channel.send_error` has sent."""
    kind = getattr(errors, document["class"], DimpleError)
    error: DimpleError = kind.__new__(kind, *document["args"])  # not constructed anew: its text is complete
    vars(error).update(document["state"])
    return error
