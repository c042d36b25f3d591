"""What a server process and the engine process say to each other, over a Unix stream socket.

A message is a head of fixed size and, after it, as many bytes as the head says: JSON, a text, or the rows of an answer
as they lie in memory. The rows of a call lie in memory that both have mapped (:mod:`app.engines.shared.room`).
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from enum import IntEnum
from typing import Any

import numpy as np

from app.engines.shared.room import FLOAT_BYTES, Room
from app.types import FloatArray

HEAD = struct.Struct("=BQQ")
"""Kind, rows, bytes that follow."""
LONGEST_TEXT = 2**16
BUFFER_BYTES = 2**20
"""Asked for; the system gives what it allows."""


class Kind(IntEnum):
    """What a message is."""

    OPEN = 1
    """A server process asks for a network; JSON: ``path``, ``milliseconds``, ``state``."""
    HERE = 2
    """The engine process lives, and loads it; a text: its number."""
    READY = 3
    """It is loaded; JSON: ``row_shape``."""
    REFUSED = 4
    """It cannot be loaded; a text that says why."""
    ROOM = 5
    """Where rows will lie: a file that goes with the one byte that follows. In place of the rows, its bytes."""
    ASK = 6
    """Rows that lie there are to be computed."""
    ANSWER = 7
    """What came of them: rows."""
    FAILED = 8
    """Why nothing came of them; a text."""


class Gone(Exception):
    """The other side has ended, or says what nobody can understand."""


class Channel:
    """One side of a connection. It is used by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        for direction in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, direction, BUFFER_BYTES)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until something comes.

        :raises Gone: where nothing does, in time.
        """
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(None if seconds is None else max(0.0, seconds) * 1000):
            raise Gone(f"nothing came within {seconds:.0f} s")

    def has_something(self) -> bool:
        """Whether something has come, or the other side has hung up."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(0))

    def send(self, kind: Kind, text: str = "") -> None:
        """Send a message without rows.

        :raises Gone: where nobody takes it.
        """
        body = text.encode()
        self._put(HEAD.pack(kind, 0, len(body)) + body)

    def send_json(self, kind: Kind, document: Any) -> None:
        """The same, of what JSON can write."""
        self.send(kind, json.dumps(document))

    def send_room(self, file: int, size: int) -> None:
        """Hand over where rows will lie."""
        self._put(HEAD.pack(Kind.ROOM, size, 1))
        try:
            socket.send_fds(self._socket, [b"."], [file])
        except OSError as error:
            raise Gone(str(error)) from None

    def take_room(self, size: int) -> Room:
        """Take it, after the head that says so."""
        try:
            _, files, _, _ = socket.recv_fds(self._socket, 1, 1)
            if not files:
                raise Gone("a room came without its file")
            try:
                return Room(files[0], size)
            finally:
                os.close(files[0])
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from None

    def ask(self, count: int) -> None:
        """Ask for so many rows of the room."""
        self._put(HEAD.pack(Kind.ASK, count, 0))

    def send_rows(self, kind: Kind, rows: FloatArray) -> None:
        """Send float32 rows (N, …)."""
        self._put(HEAD.pack(kind, len(rows), rows.nbytes))
        self._put(np.ascontiguousarray(rows).data.cast("B"))

    def receive(self, *wanted: Kind) -> tuple[Kind, int, int]:
        """Read the head of the next message: its kind, rows, and the bytes that are to be read after it.

        :raises Gone: where none comes, or it is none of those wanted.
        """
        head = bytearray(HEAD.size)
        self._fill(memoryview(head))
        kind, rows, length = HEAD.unpack(head)
        if kind not in wanted:
            raise Gone(f"a message of the kind {kind} came; {', '.join(one.name for one in wanted)} was wanted")
        return Kind(kind), rows, length

    def read_text(self, length: int) -> str:
        """Read what follows a head, as text."""
        if length > LONGEST_TEXT:
            raise Gone(f"a text of {length} bytes came; {LONGEST_TEXT} are the most")
        text = bytearray(length)
        self._fill(memoryview(text))
        return text.decode()

    def read_json(self, length: int) -> Any:
        """The same, of JSON."""
        return json.loads(self.read_text(length))

    def read_rows(self, count: int, length: int) -> FloatArray:
        """Read float32 rows of one axis each.

        :raises Gone: where their bytes are not as many as that says.
        """
        if count < 1 or length % (FLOAT_BYTES * count):
            raise Gone(f"{count} rows of {length} bytes came")
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
            raise Gone(str(error)) from None

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError as error:
                raise Gone(str(error)) from None
            if not count:
                raise Gone("the connection has ended")
            view = view[count:]
