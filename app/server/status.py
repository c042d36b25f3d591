"""A running server on this machine: its addresses, requests to it, and the message that it is ready."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from app.errors import LaunchError
from app.server.addresses import speaks_https
from app.settings import VERSION, Settings

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
LOCAL = {*ANYWHERE, "127.0.0.1", "::1"}
SECONDS = 30


def ask(
    settings: Settings, method: str, path: str, management: bool = False, token: str = "", seconds: float = SECONDS
) -> tuple[int, dict[str, Any]]:
    """Send a request without a body to the server, and return the status and JSON body of the response.

    :param settings: settings of the running server.
    :param management: whether to use the management address.
    :param token: sent as a bearer token.
    :param seconds: timeout of the response.
    :raises LaunchError: if there is no response, or it is not JSON.
    """
    connection = _connection(settings, management, seconds)
    headers = {"Host": "localhost"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = server_url(settings, management)
        raise LaunchError(f"The server does not answer at {where}: {error}. Is it still starting?") from None
    finally:
        connection.close()


def server_url(settings: Settings, management: bool = False) -> str:
    """Return the URL of the inference or management address for a browser on this machine."""
    host, port = _address(settings, management)
    if host.startswith("unix:"):
        return host
    scheme = "https" if settings.certificate_file and speaks_https((host, port), settings) else "http"
    host = "localhost" if host in LOCAL else f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}"


def _address(settings: Settings, management: bool) -> tuple[str, int]:
    if management:
        return settings.management_host, settings.management_port
    return settings.host, settings.port


def _connection(settings: Settings, management: bool, seconds: float) -> http.client.HTTPConnection:
    host, port = _address(settings, management)
    if host.startswith("unix:"):
        return _ThroughSocket(host.removeprefix("unix:"), seconds)
    host = ANYWHERE.get(host, host)
    if server_url(settings, management).startswith("https"):
        # the certificate belongs to this machine, and names the host that clients use
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    return http.client.HTTPConnection(host, port, timeout=seconds)


class _ThroughSocket(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Greeting:
    """The server's addresses and number of models.

    :param models: number of models that are ready.
    :param failed: number of models that failed to load.
    :param stop: command that stops the server.
    """

    settings: Settings
    models: int
    failed: int
    stop: str

    def line(self) -> str:
        """Return the message as one line."""
        return f"Dimple {VERSION} is ready at {self._page}, management at {self._management}, models: {self._counts}"

    def box(self) -> str:
        """Return the message in a frame."""
        rows = [
            ("Page", self._page),
            ("Management", self._management),
            ("Models", self._counts),
            ("Stop", self.stop),
        ]
        lines = [f"Dimple {VERSION} is ready", "", *(f"{name:<12}{value}" for name, value in rows)]
        width = max(map(len, lines))
        inside = [f"│ {line:<{width}} │" for line in lines]
        return "\n".join([f"╭{'─' * (width + 2)}╮", *inside, f"╰{'─' * (width + 2)}╯"])

    @property
    def _page(self) -> str:
        return server_url(self.settings)

    @property
    def _management(self) -> str:
        url = server_url(self.settings, management=True)
        return url if url.startswith("unix:") else f"{url}/manage"

    @property
    def _counts(self) -> str:
        return f"{self.models}, and {self.failed} failed to load" if self.failed else str(self.models)
