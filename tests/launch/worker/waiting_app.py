"""A WSGI application whose requests take as long as they are told to; for the tests of the worker."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from app.long_waits import long_wait

_turns = itertools.count(1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/process`` and ``/thread`` tell who answers, ``/turn`` how many such requests there were; the others last until
    the file of their query is there."""
    path, until = environ["PATH_INFO"], Path(environ["QUERY_STRING"])
    if path == "/exit":
        raise SystemExit
    if path in ("/says-so", "/turn"):
        long_wait()
    if path in ("/waits", "/says-so"):
        os.open(until, os.O_RDONLY)  # a pipe with a name: until somebody opens its other end
    elif path == "/computes":
        while not until.exists():
            pass
    number = {"/thread": threading.get_native_id, "/turn": lambda: next(_turns)}.get(path, os.getpid)()
    answer = str(number).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
