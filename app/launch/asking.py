"""Asking a server on this machine how it is."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any

from app.errors import LaunchError
from app.launch.addresses import speaks_https
from app.settings import Settings

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
SECONDS = 30


def ask_ready(settings: Settings) -> tuple[int, dict[str, Any]]:
    """Ask ``/readyz`` where predictions are served.

    :returns: the status and the answer.
    :raises LaunchError: where nobody answers.
    """
    connection = _connection(settings)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LaunchError(f"It does not answer at {place(settings)}: {error}") from None
    finally:
        connection.close()


def place(settings: Settings, management: bool = False) -> str:
    """The URL of predictions, or of management, for people."""
    host = settings.management_host if management else settings.host
    port = settings.management_port if management else settings.port
    if host.startswith("unix:"):
        return host
    scheme = "https" if settings.certificate_file and speaks_https((host, port), settings) else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _connection(settings: Settings) -> http.client.HTTPConnection:
    if settings.host.startswith("unix:"):
        return _ThroughSocket(settings.host.removeprefix("unix:"))
    host = ANYWHERE.get(settings.host, settings.host)
    if place(settings).startswith("https"):
        # the certificate is this machine's own, and names the host that clients use
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(host, settings.port, timeout=SECONDS, context=context)
    return http.client.HTTPConnection(host, settings.port, timeout=SECONDS)


class _ThroughSocket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)
