"""The messages between HTTP workers and the backend process, on a Unix stream socket.

A message has a head of fixed size, which states the length of its body. The body is a JSON document with byte strings,
or the raw rows of a response. The rows of a request are in memory that both processes have mapped: a socket would split
the rows of a picture (600 kB) into pieces, and the two processes would wake each other for each piece.
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
"""Format of a head: kind, rows or bytes of JSON, bytes of the body, generation, and two numbers of seconds."""
FLOAT_BYTES = 4
JOINED_BYTES = 2**16
"""Maximum size of a message that is sent in one piece."""
BUFFER_BYTES = 2**20
"""Requested size of the socket buffers; the system may grant less."""
STALL_SECONDS = 60
"""Timeout in seconds of a message that has begun."""


class Kind(IntEnum):
    """The kind of a message."""

    HELLO = 1
    """The backend process has accepted a connection; ``generation`` is its process id."""
    CALL = 2
    """A request with a JSON document (``op`` and its arguments) and byte strings."""
    DONE = 3
    """The response to it: a JSON document and byte strings."""
    FAILED = 4
    """An error in place of any response; JSON."""
    BUFFER = 5
    """Memory for rows: a file descriptor sent with the one byte of the body; ``rows`` is its size in bytes."""
    ASK = 6
    """A request to compute rows of that memory; the first number is their queue timeout in seconds."""
    ANSWER = 7
    """The computed rows, and the seconds of waiting and of computation."""


class Disconnected(Exception):
    """Raised if the other side has ended or has sent an invalid message."""


class SharedBuffer:
    """Memory for float32 rows that two processes have mapped. One process writes the rows, notifies the other, and
    waits.

    :param file: file descriptor, which may be closed afterwards.
    :param size: size in bytes.
    :raises OSError: if the system cannot map it.
    """

    def __init__(self, file: int, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(file, size)

    def rows(self, count: int, row_shape: Sequence[int]) -> FloatArray:
        """Return the first rows as a view: (count, …).

        :raises ValueError: if they do not fit, or the count is 0.
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
        """Wait until a message comes or the other side hangs up, and return whether that happened in time."""
        return bool(self._readable.poll(max(0.0, seconds) * 1000))

    def wait(self) -> None:
        """Wait for a message without a timeout."""
        self._readable.poll()

    def send(self, kind: Kind, document: Any = None, blobs: Sequence[bytes] = (), generation: int = 0) -> None:
        """Send a message with a JSON document and byte strings.

        :raises Disconnected: if the other side does not receive it.
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
        """Send an error that :func:`error_from` restores on the other side."""
        self.send(Kind.FAILED, {"class": type(error).__name__, "args": list(error.args), "state": vars(error)})

    def send_buffer(self, size: int) -> SharedBuffer:
        """Create memory for rows, and pass it to the other side.

        :raises OSError: if the system cannot provide it.
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
        """Receive the memory that follows a head of kind BUFFER."""
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
        """Request the computation of the first rows of the buffer.

        :param timeout: seconds that the rows may wait in the queue.
        """
        self._put(HEAD.pack(Kind.ASK, count, 0, generation, timeout, 0.0))

    def answer(self, rows: FloatArray, waited: float, computed: float) -> None:
        """Send float32 rows (N, …) with their seconds of waiting and of computation."""
        data = np.ascontiguousarray(rows).data.cast("B")
        head = HEAD.pack(Kind.ANSWER, len(rows), rows.nbytes, 0, waited, computed)
        if rows.nbytes < JOINED_BYTES:  # in one piece, so that the other side wakes once
            self._put(head + data)
            return
        self._put(head)
        self._put(data)

    def receive(self, *kinds: Kind) -> tuple[Kind, int, int, int, float, float]:
        """Read the head of the next message, in the format of :data:`HEAD`.

        :raises Disconnected: if no message comes, or one of another kind.
        """
        head = bytearray(HEAD.size)
        self._fill(memoryview(head))
        kind, *numbers = HEAD.unpack(head)
        if kind not in kinds:
            raise Disconnected(f"a message of the kind {kind} came; expected {', '.join(kind.name for kind in kinds)}")
        return (Kind(kind), *numbers)

    def read(self, text: int, length: int) -> tuple[Any, list[bytes]]:
        """Read the JSON document and the byte strings after a head.

        :param text: length of the JSON in bytes.
        :param length: total length in bytes.
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
            raise Disconnected(f"an invalid message came: {error}") from None

    def read_rows(self, count: int, length: int) -> FloatArray:
        """Read the float32 rows after a head: (count, columns).

        :raises Disconnected: if the length does not match.
        """
        if count < 1 or length % (FLOAT_BYTES * count):
            raise Disconnected(f"{count} rows of {length} bytes came")
        rows: FloatArray = np.empty((count, length // FLOAT_BYTES // count), np.float32)
        self._fill(rows.data.cast("B"))
        return rows

    def close(self) -> None:
        """Close the connection."""
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
    error: DimpleError = kind.__new__(kind, *document["args"])  # without the constructor, because its text is complete
    vars(error).update(document["state"])
    return error
