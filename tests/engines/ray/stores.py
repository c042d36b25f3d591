"""A real web server that stores what is PUT, as object stores and WebDAV servers do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.helpers import running


class Files(ThreadingHTTPServer):
    """The stored files by path, and the requests."""

    def __init__(self, takes: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.takes = takes
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Files

    def do_HEAD(self) -> None:
        self._give(False)

    def do_GET(self) -> None:
        self._give(True)

    def do_PUT(self) -> None:
        self._note()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.takes:
            self.server.files[self.path.partition("?")[0]] = data
        self.send_response(200 if self.server.takes else 405)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass

    def _note(self) -> None:
        self.server.requests.append((self.command, self.path))

    def _give(self, body: bool) -> None:
        self._note()
        data = self.server.files.get(self.path.partition("?")[0])
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if body and data is not None:
            self.wfile.write(data)


def store_server(takes: bool = True) -> AbstractContextManager[Files]:
    """Yield a server, for as long as it is needed."""
    return running(Files(takes))
