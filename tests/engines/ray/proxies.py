"""Real HTTP servers that stand for Ray Serve's proxies, with replicas that add up each row."""

from __future__ import annotations

import io
import json
import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import LoadedEngine, Parity
from app.engines.ray.engine import describe
from app.engines.ray.serve_config import application_name
from app.formats.folder import digest_of
from app.types import FloatArray, Signature, TensorSpec
from tests.helpers import SECONDS, running

LOST = 0
"""In place of a status: the connection ends without a response."""


class Proxy(ThreadingHTTPServer):
    """A proxy with one application. ``answers`` are statuses and texts that it gives before it computes.

    Requests are answered only while ``answering`` is set.
    """

    daemon_threads = True

    def __init__(self, application: str, description: dict[str, Any], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.route = f"/{application}"
        self.description = description
        self.answers: list[tuple[int, str]] = []
        self.requests: list[tuple[str, str]] = []
        self.answering = threading.Event()
        self.answering.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/-/routes":
            self._give(200, json.dumps({self.server.route: "app"}).encode())
        else:
            self._answer(json.dumps(self.server.description).encode())

    def do_POST(self) -> None:
        batch = np.load(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))), allow_pickle=False)
        body = io.BytesIO()
        np.save(body, _Sum().predict(batch))
        self._answer(body.getvalue())

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.server.requests.append((self.command, self.path))
        self.server.answering.wait(SECONDS)
        if self.path != self.server.route:
            self._give(404, b"Path not found.")
        elif self.server.answers:
            status, text = self.server.answers.pop(0)
            if status == LOST:
                self.close_connection = True
            else:
                self._give(status, text.encode())
        else:
            self._give(200, body)

    def _give(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Sum:
    def predict(self, batch: FloatArray) -> FloatArray:
        return batch.reshape(len(batch), -1).sum(axis=1, keepdims=True)

    def close(self) -> None:
        pass


def description_of(folder: Path) -> dict[str, Any]:
    """Return what a replica says of a network with 2 inputs and one output."""
    signature = Signature((TensorSpec("data", (0, 1, 2, 1)),), (TensorSpec("sum", (0, 1)),))
    parity = Parity(2e-7, 14, "mxnet", "2026-11-29T00:00:00+00:00")
    return describe(LoadedEngine(_Sum(), "openvino", signature, parity, labels=("small", "large")))


def proxy(folder: Path, name: str = "net", port: int = 0) -> AbstractContextManager[Proxy]:
    """Return a proxy that serves the model of a folder, for as long as it is needed."""
    return running(Proxy(application_name(name, digest_of(folder)), description_of(folder), port))
