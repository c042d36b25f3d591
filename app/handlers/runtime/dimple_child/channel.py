"""Messages to and from the server. ``app/handlers/protocol.py`` documents the format, and is the other end."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

JOINED_BYTES = 2**16
"""Maximum size of a message that is sent in one piece, so that the server wakes once."""


@dataclass(frozen=True)
class Message:
    """A JSON object with byte strings."""

    header: dict[str, Any]
    blobs: list[bytearray | bytes] = field(default_factory=list)


class Channel:
    """The child's end. All calls block."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = sock.makefile("rb")

    def send(self, message: Message) -> None:
        """Send a message."""
        header = json.dumps(message.header | {"sizes": [len(blob) for blob in message.blobs]}).encode()
        parts = [struct.pack("!I", len(header)), header, *message.blobs]
        if sum(map(len, parts)) <= JOINED_BYTES:
            parts = [b"".join(parts)]
        for part in parts:
            self._socket.sendall(part)

    def receive(self) -> Message | None:
        """Receive a message; return None if the server has hung up."""
        try:
            (size,) = struct.unpack("!I", self._read(4))
            header = json.loads(self._read(size))
            return Message(header, [self._read(size) for size in header["sizes"]])
        except (EOFError, ConnectionError):
            return None

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        if self._reader.readinto(data) != size:
            raise EOFError
        return data
