"""A real web server on this machine with files under paths, and faulty answers on request."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from tests.utils.test_download import Handler, Reply, Site

MISSING = Reply(status=404)


class Shelf:
    """The answers of the server, path by path, and its requests."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.url = ""
        self._sites: dict[str, Site] = {}

    def put(self, path: str, *replies: Reply | bytes) -> None:
        """Answer a path with these replies, one request after the other; the last one repeats."""
        site_replies = [Reply(data=reply) if isinstance(reply, bytes) else reply for reply in replies]
        self._sites[f"/{path}"] = Site(site_replies, over=self.over)

    def site(self, path: str) -> Site:
        return self._sites.setdefault(path, Site([MISSING], over=self.over))

    def requested_paths(self) -> list[str]:
        """Return the requested paths, each once."""
        return sorted(path.lstrip("/") for path, site in self._sites.items() if site.requests)

    def ranges(self, path: str) -> list[str]:
        return self.site(f"/{path}").ranges()


class ShelfHandler(Handler):
    shelf: Shelf

    def do_GET(self) -> None:
        self.site = self.shelf.site(self.path)
        super().do_GET()


@contextmanager
def open_shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneShelfHandler", (ShelfHandler,), {"shelf": shelf}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield shelf
    finally:
        shelf.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def zipped(**files: bytes) -> bytes:
    """Return a zip of these files; ``__`` in a name stands for a slash."""
    return zipped_names({name.replace("__", "/"): data for name, data in files.items()})


def zipped_names(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()
