"""What a server process and the engine process say to each other, over a Unix stream socket.

A message is a head of fixed size and, after it, as many bytes as the head says: JSON, a text, or rows as they lie in
memory. Rows take the same way as the rest: the system copies those of a picture (600 kB) in 0.1 ms, and through memory
that both have mapped that takes as long.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

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
    ASK = 5
    """Rows to be computed."""
    ANSWER = 6
    """What came of them."""
    FAILED = 7
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

    def read_rows(self, count: int, length: int, row_shape: Sequence[int] | None = None) -> FloatArray:
        """Read float32 rows.

        :param row_shape: without the batch; where it is None, a row has one axis.
        :raises Gone: where their bytes are not as many as that says.
        """
        if count < 1 or length % (4 * count) or (row_shape is not None and length != 4 * count * np.prod(row_shape)):
            raise Gone(f"{count} rows of {length} bytes came; each has the shape {row_shape}")
        rows: FloatArray = np.empty(
            (count, *(row_shape if row_shape is not None else (length // 4 // count,))), np.float32
        )
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
