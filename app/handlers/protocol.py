"""The server's end of the socket to a handler's process. ``runtime/dimple_child/channel.py`` is the other end.

A message consists of a uint32, big-endian, the length of a header; the header, a JSON object in UTF-8; and byte
strings, whose lengths are the header's list ``sizes``. The server sends one message and gets one back, first to load
the model:

    {model_name, model_dir, handler, manifest, batch_size, gpu_id, decode_input_request, legacy, limits}
    →  {code, message}

then for each batch, with the bytes of the fields, and of the answers' bodies:

    {requests: [{id, headers, fields: [[name, content type, is file], …]}, …]}
    →  {answers: [{status, phrase, headers, content_type, error?: [type, message]}, …], out_of_memory}
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

Reply = tuple[dict[str, Any], list[bytes]]
JOINED_BYTES = 2**16
"""Maximum size of a message that is sent in one piece, so that the other side wakes once."""


class Disconnected(Exception):
    """An error for a process that has hung up: it has ended, or is about to end."""


class ProtocolError(Exception):
    """An error for a process that exceeds its timeout or sends an invalid message, and can only be killed."""


class Connection:
    """A connection for one request at a time.

    :param max_bytes: maximum bytes of a reply.
    """

    def __init__(self, sock: socket.socket, max_bytes: int) -> None:
        self._socket = sock
        self._max_bytes = max_bytes
        self._deadline = 0.0
        self._ahead = bytearray()  # received, but not yet read

    def ask(self, header: Mapping[str, Any], blobs: Sequence[bytes], seconds: float) -> Reply:
        """Send a message and wait for the reply.

        :param seconds: timeout of both together.
        :raises ProtocolError: if the timeout expires, or the process sends too many bytes or an invalid message.
        :raises Disconnected: if the process ends meanwhile.
        """
        self._deadline = time.monotonic() + seconds
        try:
            self._send(header, blobs)
            return self._receive()
        except TimeoutError:
            raise ProtocolError(f"did not answer within {seconds:g} s") from None
        except (OSError, EOFError):
            raise Disconnected("hung up") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProtocolError(f"sent an invalid message: {error!r}") from None

    def hang_up(self) -> None:
        """Shut down the socket, which makes the process end and wakes the thread that waits for it."""
        with contextlib.suppress(OSError):  # the process has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _send(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
        encoded = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode()
        parts = [struct.pack("!I", len(encoded)), encoded, *blobs]
        if sum(map(len, parts)) <= JOINED_BYTES:
            parts = [b"".join(parts)]
        for part in parts:
            self._socket.settimeout(self._left())
            self._socket.sendall(part)

    def _receive(self) -> Reply:
        (size,) = struct.unpack("!I", self._read(4))
        self._check(size)
        header = json.loads(self._read(size))
        sizes = header["sizes"]
        if not all(type(size) is int and size >= 0 for size in sizes):  # negative sizes could cancel others out
            raise ValueError("a size that is none")
        self._check(sum(sizes))
        return header, [self._read(size) for size in sizes]

    def _read(self, size: int) -> bytes:
        while len(self._ahead) < size:
            self._socket.settimeout(self._left())
            data = self._socket.recv(max(JOINED_BYTES, size - len(self._ahead)))
            if not data:
                raise EOFError
            self._ahead += data
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise ValueError(f"{size:,} bytes; at most {self._max_bytes:,} are allowed")
