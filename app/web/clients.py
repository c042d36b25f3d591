"""Whether somebody still waits for the answer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from flask import request

from app.backend.batching import never_disconnected


def client_disconnected() -> Callable[[], bool]:
    """A question that may be asked later, from any thread: has the client of this request closed its connection?

    A client that has only ended its own half counts as gone, as most servers have it. Under a server that does not show
    its socket, and over TLS, where nothing can be seen without reading, everybody stays.
    """
    connection = request.environ.get("gunicorn.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return never_disconnected

    def is_disconnected() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False  # open, and silent
        except OSError:
            return True

    return is_disconnected
