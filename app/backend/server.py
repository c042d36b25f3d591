"""The socket server of the backend process, with a thread for each connection of the HTTP workers."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from app.backend.networks import Network, NetworkFile
from app.backend.protocol import Channel, Disconnected, Kind, SharedBuffer
from app.backend.registrations import Registration
from app.backend.service import BackendService
from app.errors import DimpleError, EngineUnavailable, ModelFormatError
from app.handlers.types import Field, HandlerRequest
from app.utils.error_text import reason_of

REST_SECONDS = 0.05
BEAT_SECONDS = 1.0
LONGEST_REASON = 500
CREDENTIALS = struct.Struct("3i")
"""Process, user, group: the kernel's ``struct ucred`` of unix(7)."""

log = logging.getLogger(__name__)


class BackendServer:
    """A server for the HTTP workers.

    :param listener: the listening socket.
    """

    def __init__(self, listener: socket.socket, service: BackendService) -> None:
        self._listener = listener
        self.service = service
        self._lock = threading.Lock()
        self._connections = 0
        self._ending = False
        self._woken, self._wake = socket.socketpair()
        self.answered = 0

    def end(self) -> None:
        """Make :meth:`run` return when the last connection is closed. Signal handlers may call this."""
        self._ending = True
        self._wake.send(b".")

    def run(self) -> None:
        """Serve until :meth:`end` is called and the last connection is closed."""
        selector = selectors.DefaultSelector()
        for item in (self._listener, self._woken):
            item.setblocking(False)
            selector.register(item, selectors.EVENT_READ)
        while not (self._ending and not self._connections):
            self.service.state.beat()
            ready = {key.fileobj for key, _ in selector.select(BEAT_SECONDS)}
            if self._woken in ready:
                self._woken.recv(4096)
            if self._listener in ready:
                self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has disconnected, or too many files are open
            time.sleep(REST_SECONDS)
            return
        if _user_of(connection) != os.getuid():
            connection.close()
            return
        connection.setblocking(True)
        channel = Channel(connection)
        with self._lock:
            self._connections += 1
        try:
            threading.Thread(target=self._serve, args=(channel,), name="connection", daemon=True).start()
        except RuntimeError:  # the system cannot start another thread
            self._close(channel)

    def _serve(self, channel: Channel) -> None:
        try:
            with contextlib.suppress(Disconnected):
                channel.send(Kind.HELLO, generation=os.getpid())
                _Connection(channel, self).serve()
        except Exception:
            log.exception("a connection ends")
        finally:
            self._close(channel)

    def _close(self, channel: Channel) -> None:
        channel.close()
        with self._lock:
            self._connections -= 1
        self._wake.send(b".")


class _Connection:
    """One connection: its calls, and a network that it holds for its lifetime."""

    def __init__(self, channel: Channel, server: BackendServer) -> None:
        self._channel = channel
        self._server = server
        self._service = server.service
        self._network: Network | None = None
        self._name = ""
        self._buffer: SharedBuffer | None = None
        self._held = ExitStack()

    def serve(self) -> None:
        """Answer calls until the other side hangs up.

        :raises Disconnected: if the other side hangs up.
        """
        with self._held:
            while True:
                self._channel.wait()
                kind, size, length, generation, timeout, _ = self._channel.receive(Kind.CALL, Kind.BUFFER, Kind.ASK)
                if kind is Kind.ASK:
                    self._compute(size, generation, timeout)
                elif kind is Kind.BUFFER:
                    self._buffer = self._channel.receive_buffer(size)
                else:
                    self._call(*self._channel.read(size, length))

    def _compute(self, count: int, generation: int, timeout: float) -> None:
        """Compute rows in their turn."""
        network = self._network
        try:
            if network is None or self._buffer is None:
                raise Disconnected("rows are to be computed without a network or a buffer")
            rows = self._buffer.rows(count, network.row_shape)
        except ValueError as error:
            raise Disconnected(str(error)) from None
        try:
            done = network.submit(self._name, generation, rows, timeout, self._channel.is_readable)
        except DimpleError as error:
            self._channel.send_error(error)
        except Exception as error:
            log.exception("%d rows are not computed", count)
            reason = reason_of(error, LONGEST_REASON)
            self._channel.send_error(ModelFormatError(f"it could not be computed: {reason}"))
        else:
            self._server.answered += 1
            self._channel.answer(done.result, done.waited, done.computed)

    def _call(self, document: dict[str, Any], blobs: list[bytes]) -> None:
        try:
            answer, parts = self._answer(document.pop("op"), document, blobs)
        except DimpleError as error:
            self._channel.send_error(error)
        except Disconnected:
            raise
        except Exception as error:
            log.exception("a call failed")
            self._channel.send_error(EngineUnavailable(reason_of(error, LONGEST_REASON)))
        else:
            self._channel.send(Kind.DONE, answer, parts)

    def _answer(self, op: str, arguments: dict[str, Any], blobs: list[bytes]) -> tuple[Any, list[bytes]]:
        service = self._service
        match op:
            case "answer":
                self._server.answered += 1
                request = _request(arguments["request"], blobs)
                done = service.answer(
                    arguments["name"], arguments["generation"], request, 0.0, self._channel.is_readable
                )
                answer = asdict(done.result) | {"body": None}
                return {"answer": answer, "waited": done.waited, "computed": done.computed}, [done.result.body]
            case "open":
                self._name = arguments["name"]
                return self._open(NetworkFile(**arguments["file"])), []
            case "status":
                return service.status(arguments["generation"]), []
            case "register":
                return asdict(service.register(Registration(**arguments["registration"]), arguments["replacing"])), []
            case "scale":
                service.scale(arguments["name"], arguments["least"], arguments["most"], arguments["wait_seconds"])
            case "unregister":
                service.unregister(arguments["name"])
            case "wait_started":
                service.wait_started()
            case _:
                raise Disconnected(f"nothing is called {op}")
        return None, []

    def _open(self, file: NetworkFile) -> list[int]:
        """Acquire a network, and return the shape of its rows."""
        try:
            self._network = self._held.enter_context(self._service.networks.acquire(file))
        except (RuntimeError, OSError) as error:
            raise ModelFormatError(reason_of(error, LONGEST_REASON)) from None
        return list(self._network.row_shape)


def _request(document: dict[str, Any], blobs: list[bytes]) -> HandlerRequest:
    fields = tuple(
        Field(name, content_type, data, is_file)
        for (name, content_type, is_file), data in zip(document["fields"], blobs, strict=True)
    )
    return HandlerRequest(document["id"], fields, document["headers"])


def _user_of(connection: socket.socket) -> int:
    """Return the user id at the other end (SO_PEERCRED of unix(7))."""
    return int(CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1])
