"""A WSGI application whose requests last as long as the test decides; for the tests of the worker."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from app.utils.dispatch import ADMITTED, HEAD_ONLY, MAX_BODY, OVERLOADED, Cost, about_to_block

COSTS = {"/waits": Cost.WAITS, "/computes": Cost.NORMAL}


class WaitingApp:
    """The application. ``/process`` and ``/thread`` answer with the process and the thread that answers, ``/turn`` with
    the number of such requests, ``/echo`` and ``/moved`` with the body, the latter in another thread than the main one,
    ``/admitted`` with whether it was admitted before; the others last until the file of their query exists.
    """

    def __init__(self) -> None:
        self.extensions = {"request_policy": self}
        self._turns = itertools.count(1)

    def cost(self, path: str, query: str, size: int) -> Cost:
        """Return the cost of a request."""
        return COSTS.get(path, Cost.SHORT)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        path = environ["PATH_INFO"]
        status = "200 OK"
        if environ.get(OVERLOADED):
            status, body = "503 Service Unavailable", b"overloaded"
        elif HEAD_ONLY in environ:
            environ[MAX_BODY] = 1000 if path == "/small" else 10**6
            status, body = ("403 Forbidden", b"refused") if path == "/refused" else ("100 Continue", b"")
        else:
            body = self._body(path, Path(environ["QUERY_STRING"]), environ)
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def _body(self, path: str, until: Path, environ: dict[str, Any]) -> bytes:
        if path in ("/echo", "/moved"):
            body: bytes = environ["wsgi.input"].read()
            if path == "/moved":
                about_to_block()
            return body
        if path == "/exit":
            raise SystemExit
        if path == "/blocks":
            about_to_block()
        if path in ("/waits", "/blocks"):
            os.open(until, os.O_RDONLY)  # a named pipe: until its other end is opened
        elif path == "/computes":
            while not until.exists():
                pass
        if path == "/admitted":
            return str(environ[ADMITTED]).encode()
        number = {"/thread": threading.get_native_id, "/turn": lambda: next(self._turns)}.get(path, os.getpid)()
        return str(number).encode()


app = WaitingApp()
