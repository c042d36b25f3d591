"""Whose word is taken for where a request came from: that of the proxies which the settings trust, and of nobody else.

Only the address and the scheme are taken over. The port is the socket's own in any case: by it management is told from
prediction, and a client must not choose it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import SettingError
from app.settings import Settings

NAME = "DIMPLE_TRUSTED_PROXIES"
EXPECTED = "a number of proxies, or a list of addresses and networks such as 10.0.0.0/8,::1,unix"
SOCKET = "unix"
SCHEMES = ("http", "https")


def believe_proxies(app: Flask, settings: Settings) -> None:
    """Let the application see the client's address instead of that of the last trusted proxy.

    :raises SettingError: where the setting is no number, nor a list of networks.
    """
    told = settings.trusted_proxies.strip()
    if told.isdecimal() and int(told) <= 16:
        if int(told):
            app.wsgi_app = ProxyFix(app.wsgi_app, x_for=int(told), x_proto=int(told))  # type: ignore[method-assign]
    elif told:
        app.wsgi_app = _Listed(app.wsgi_app, told)  # type: ignore[method-assign]


class _Listed:
    """Walks X-Forwarded-For from its end, where the nearest proxy has written, to the first that is not trusted."""

    def __init__(self, wsgi: Any, told: str) -> None:
        self._wsgi = wsgi
        names = [one.strip() for one in told.split(",") if one.strip()]
        self._sockets = SOCKET in names
        try:
            self._networks = [ipaddress.ip_network(one, strict=False) for one in names if one != SOCKET]
        except ValueError:
            raise SettingError(NAME, told, EXPECTED) from None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        if self._trusts(peer):
            hops = [one.strip() for one in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if one.strip()]
            while hops:
                peer = hops.pop()
                if not self._trusts(peer):
                    break
            environ["REMOTE_ADDR"] = peer
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
            if scheme in SCHEMES:
                environ["wsgi.url_scheme"] = scheme
        result: Iterable[bytes] = self._wsgi(environ, start_response)
        return result

    def _trusts(self, address: str) -> bool:
        if not address:
            return self._sockets
        try:
            one: Any = ipaddress.ip_address(address)
        except ValueError:
            return False
        one = getattr(one, "ipv4_mapped", None) or one
        return any(one in network for network in self._networks if network.version == one.version)
