"""Dimple's worker: its models, listeners of both kinds, and our own words for what cannot be read."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from gunicorn.config import Config

from app.launch.worker.leading import LeadingWorker
from app.launch.worker.refusals import refusal_of
from app.settings import Settings, read_settings

TICK_SECONDS = 1.0

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Worker(LeadingWorker):
    """One server process."""

    wsgi: Wsgi

    def init_process(self) -> None:
        """Find out which listeners speak plain HTTP although there is a certificate."""
        self._settings = read_settings()
        self.client_seconds = self._settings.client_timeout
        self._plain = _without_certificate(self.cfg)
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the models, however long that takes: gunicorn ends a worker that is not heard of for its timeout."""
        loaded = threading.Event()

        def tell() -> None:
            while not loaded.wait(TICK_SECONDS):
                self.notify()

        threading.Thread(target=tell, name="loading", daemon=True).start()
        try:
            super().load_wsgi()
        finally:
            loaded.set()
        self.wsgi = name_sockets(self.wsgi, self._settings)

    def config_of(self, listener: Any) -> Config:
        """The configuration of a listener's connections: gunicorn itself knows one for all."""
        plain = self.cfg.is_ssl and not speaks_https(listener.getsockname(), self._settings)
        return self._plain if plain else self.cfg

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer a request that cannot be read, in our own words."""
        refusal = refusal_of(exc)
        if refusal is None:
            super().handle_error(req, client, addr, exc)
            return
        self.log.info("refused %s with %d: %.200r", addr[0] if addr else "a socket's client", refusal.code, str(exc))
        with suppress(OSError):
            client.sendall(refusal.answer())


def speaks_https(listener: Any, settings: Settings) -> bool:
    """Whether a listener is one of those that speak HTTPS where there is a certificate.

    :param listener: what the socket says of itself: host and port, or the path of a socket in the file system.
    """
    if settings.https == "both":
        return True
    if isinstance(listener, tuple):
        at_management = listener[1] == settings.management_port and not _is_unix(settings.management_host)
    else:
        at_management = f"unix:{listener}" == settings.management_host
    return at_management == (settings.https == "management")


def name_sockets(wsgi: Wsgi, settings: Settings) -> Wsgi:
    """Let requests that come through a socket in the file system have the port of its setting.

    gunicorn would take it from the Host header, which is the client's to choose; and by the port it is known whether
    a request came to management.
    """
    hosts = {settings.management_host: settings.management_port, settings.host: settings.port}
    ports = {host.removeprefix("unix:"): str(port) for host, port in hosts.items() if _is_unix(host)}
    if not ports:
        return wsgi

    def named(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = environ["gunicorn.socket"].getsockname()
        if isinstance(name, str):
            environ["SERVER_PORT"] = ports[name]
        return wsgi(environ, start_response)

    return named


def _is_unix(host: str) -> bool:
    return host.startswith("unix:")


def _without_certificate(config: Config) -> Config:
    plain = Config()
    plain.settings = dict(config.settings)
    for name in ("certfile", "keyfile"):
        plain.settings[name] = copy.copy(config.settings[name])
        plain.settings[name].set(None)
    return plain
