"""Addresses in the syntax of Multi Model Server: ``http://host:port``, ``https://…``, ``unix:/path``."""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.errors import LaunchError, SettingError
from app.settings import Settings

EXPECTED = "http://host:port, https://host:port or unix:/path"
PATIENCE_SECONDS = 5.0
"""Seconds to retry a busy port, as long as gunicorn itself retries to bind."""


@dataclass(frozen=True)
class Address:
    """An address to listen on. ``host`` is ``unix:/path`` for a Unix socket, whose ``port`` is 0."""

    host: str
    port: int
    https: bool = False


def parse_address(name: str, text: str, plain_port: int, https_port: int) -> Address:
    """Parse an address.

    :param name: name of the setting, for the error.
    :param plain_port: default port of an ``http`` address; ``https_port`` is the default for ``https``.
    :raises SettingError: if the address is invalid.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):  # unix:///path, a common spelling
            path = "/" + path.lstrip("/")
        if not path:
            raise SettingError(name, text, EXPECTED)
        return Address(f"unix:{Path.cwd() / path}", 0)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise SettingError(name, text, f"{EXPECTED}, with a port from 1 to 65535") from None
    surplus = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in ("http", "https") or not parts.hostname or surplus or port == 0:
        raise SettingError(name, text, EXPECTED)
    https = parts.scheme == "https"
    return Address(parts.hostname, port or (https_port if https else plain_port), https)


def check_free(host: str, port: int, setting: str) -> None:
    """Check that a port is free.

    The workers of a killed server hold its port until they notice, so the check is retried.

    :param setting: name of the port's setting.
    :raises LaunchError: if another program listens on the port, or this process lacks permission.
    """
    if host.startswith("unix:"):
        return
    until = time.monotonic() + PATIENCE_SECONDS
    while (error := _listening_fails(host, port)) is not None:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            return  # gunicorn reports other errors
        if error.errno == errno.EACCES or time.monotonic() > until:
            raise LaunchError(_busy(host, port, setting, error))
        time.sleep(0.1)


def _busy(host: str, port: int, setting: str, error: OSError) -> str:
    """Return why a port cannot be listened on, with a remedy."""
    another = f"choose another port, as in {setting}={port + 10 if port < 65_000 else port - 10}"
    if error.errno == errno.EACCES:
        return f"Port {port} cannot be opened: only root may open a port below 1024 here. Please {another}."
    owner = _owner(port)
    if owner is None:
        return f"Port {port} of {host} is in use by another user's process. Stop it, or {another}."
    return (
        f"Port {port} of {host} is in use by process {owner[0]} ({owner[1]}). Stop it (kill {owner[0]}), or {another}."
    )


def _owner(port: int) -> tuple[int, str] | None:
    """Return the process that listens on a port and its shortened command line; None if it is another user's."""
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr[1] == port and connection.status == psutil.CONN_LISTEN:
            try:
                process = psutil.Process(connection.pid) if connection.pid else None
                while process and (above := process.parent()) and above.cmdline() == process.cmdline():
                    process = above  # workers inherit the sockets of gunicorn's master
                return (process.pid, " ".join(process.cmdline())[:80]) if process else None
            except psutil.Error:
                return None
    return None


def _listening_fails(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return error
    return None


def bind(host: str, port: int) -> str:
    """Return an address in gunicorn's ``bind`` syntax."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def speaks_https(listener: Any, settings: Settings) -> bool:
    """Return whether a listener speaks HTTPS if there is a certificate.

    :param listener: the socket's name: host and port, or the path of a Unix socket.
    """
    if settings.https == "both":
        return True
    if isinstance(listener, tuple):
        is_unix = settings.management_host.startswith("unix:")
        at_management = listener[1] == settings.management_port and not is_unix
    else:
        at_management = f"unix:{listener}" == settings.management_host
    return bool(at_management) == (settings.https == "management")
