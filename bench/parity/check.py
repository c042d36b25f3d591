"""One check: a request that both servers get, and the parts of the answers to compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.parity.answer import NONE, Answer
from bench.parity.peer import Peer

JSON = "application/json"
WORKERS = ("workers.*.id", "workers.*.startTime", "workers.*.memoryUsage")
SETTLE_TRIES, SETTLE_SECONDS = 100, 0.2


@dataclass(frozen=True)
class Check:
    """A request, and the answer of Multi Model Server that is needed for it to prove anything.

    :param id: ``suite.name``; known differences refer to it.
    :param asks: the question in words, for the report.
    :param status: what MMS's status must be. Two servers that both fail for a reason of the bench's are no parity.
    :param says: text that MMS's body must contain.
    :param masked: paths of the JSON body that differ from run to run (``workers.*.id``); only their kinds are compared.
    :param unordered: paths whose lists have no order.
    :param drops: a model that neither server should have registered; what one has is unregistered, and the next checks
        start from the same.
    """

    id: str
    asks: str
    ask: Callable[[Peer], Answer]
    status: int = 200
    says: str = ""
    masked: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()
    drops: str = ""


def predict(
    id: str,
    line: str,
    status: int = 200,
    says: str = "",
    body: Any = None,
    headers: Mapping[str, str] = NONE,
    management: bool = False,
    **more: Any,
) -> Check:
    """Return a check of a request at the inference port, or at the management port. ``line`` is ``METHOD path``."""
    method, path = line.split(" ", 1)
    sent = body.encode() if isinstance(body, str) else body

    def ask(peer: Peer) -> Answer:
        # a body that is sent in chunks is read once only
        return peer.ask(method, path, sent() if callable(sent) else sent, headers, management)

    where = "management " if management else ""
    header_text = f", {'; '.join(f'{key}: {value}' for key, value in headers.items())}" if headers else ""
    return Check(id, f"{where}{line}{header_text}{_body_text(sent)}", ask, status, says, **more)


manage = partial(predict, management=True)


def describe(id: str, model: str, says: str = "", masked: tuple[str, ...] = WORKERS) -> Check:
    """Return a check of a description once no worker starts or ends any more: each server starts and ends them in its
    own time.
    """

    def ask(peer: Peer) -> Answer:
        for _ in range(SETTLE_TRIES):
            answer = peer.ask("GET", f"/models/{model}", management=True)
            if b"LOADING" not in answer.body:  # nor UNLOADING
                break
            time.sleep(SETTLE_SECONDS)
        return answer

    return Check(id, f"management GET /models/{model}", ask, 200, says, masked)


def probe(id: str, asks: str, ask: Callable[[Peer], Answer], status: int = 200, says: str = "", **more: Any) -> Check:
    """Return a check that takes more than one request."""
    return Check(id, asks, ask, status, says, **more)


def _body_text(body: Any) -> str:
    if not isinstance(body, bytes) or not body:
        return ""
    return f", body {body.decode()!r}" if len(body) < 80 and body.isascii() else f", body of {len(body):,} bytes"


def form(parts: Mapping[str, str | bytes | tuple[str, str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body and its header. A part is a text, or a file: name, content type ("" for none), bytes."""
    boundary = "parity-bench-boundary"
    lines = []
    for name, part in parts.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(part, tuple):
            file_name, kind, content = part
            head += f'; filename="{file_name}"' + (f"\r\nContent-Type: {kind}" if kind else "")
        else:
            content = part.encode() if isinstance(part, str) else part
        lines.append(head.encode() + b"\r\n\r\n" + content + b"\r\n")
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
