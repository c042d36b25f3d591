"""A client of Ray Serve's HTTP proxies, which loses no request when one proxy or replica is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

from app.errors import (
    ClusterError,
    ClusterUnavailable,
    DimpleError,
    ModelFormatError,
    NoReplica,
    QueueFull,
    QueueTimeout,
)
from app.settings import Settings
from app.utils.error_text import reason_of

if TYPE_CHECKING:
    import urllib3

log = logging.getLogger(__name__)

HTTP_PORT, RAY_PORT = 8000, 6379  # by default
ADDRESS = re.compile(r"([\w.\-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")
CONNECTIONS = 1024  # a thread with a request has one
POLL_SECONDS, CONNECT_SECONDS = 1.0, 2.0
KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 5000}
"""Options of Linux that end a connection to a machine without power after 5 seconds."""


class ServeClient:
    """The connections of one process to the proxies of a cluster. Every method may be called from any thread.

    Every second each proxy is asked which applications it routes to. Requests go to those that answer, in turn.
    """

    def __init__(self, proxies: tuple[str, ...]) -> None:
        """Ask the proxies at these addresses, ``host:port``, and go on asking them."""
        import urllib3
        from urllib3.connection import HTTPConnection

        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        options += [
            (socket.IPPROTO_TCP, getattr(socket, key), KEEPALIVE[key]) for key in KEEPALIVE if hasattr(socket, key)
        ]
        self._pool = urllib3.PoolManager(len(proxies), maxsize=CONNECTIONS, retries=False, socket_options=options)
        self._turns = itertools.count()
        self._lock = threading.Lock()  # guards changes of the states
        self.states: dict[str, frozenset[str] | str] = dict.fromkeys(proxies, frozenset())
        """The routes of each proxy that answers, or the reason why it does not."""
        self._closed = threading.Event()
        with ThreadPoolExecutor(len(proxies)) as pool:
            list(pool.map(self._poll, proxies))
        for proxy in proxies:
            threading.Thread(target=self._follow, args=(proxy,), name=f"cluster {proxy}", daemon=True).start()

    @property
    def lost(self) -> str:
        """Return why no proxy answers; empty if one does."""
        states = self.states
        if any(isinstance(state, frozenset) for state in states.values()):
            return ""
        return "none of its proxies answers (" + "; ".join(f"{proxy}: {why}" for proxy, why in states.items()) + ")"

    def serves(self, route: str) -> bool:
        """Return whether a proxy that answers routes to an application."""
        return any(isinstance(state, frozenset) and route in state for state in self.states.values())

    def request(self, name: str, route: str, body: bytes | None, seconds: float) -> bytes:
        """Send a request to an application, and return the body of its response.

        If a proxy or a replica is lost, the request is repeated at the next proxy, so it must be idempotent.

        :param name: the model's name, for errors.
        :param body: a body to POST; None for GET.
        :param seconds: timeout of everything.
        :raises NoReplica: if no proxy routes to the application; also ``ClusterUnavailable``, ``QueueFull``,
            ``QueueTimeout``, and ``ModelFormatError`` if the replica rejects the request.
        """
        deadline = time.monotonic() + seconds
        *proxies, last = self._order(route)
        for proxy in proxies:
            with contextlib.suppress(ClusterUnavailable, NoReplica):
                return self._attempt(name, proxy, route, body, deadline)
        return self._attempt(name, last, route, body, deadline)

    def close(self) -> None:
        """Stop following the proxies."""
        self._closed.set()
        self._pool.clear()

    def _order(self, route: str) -> list[str]:
        """Return the proxies in the order in which they are tried: first, in turn, those with the route."""
        states = list(self.states.items())
        start = next(self._turns) % len(states)
        states = states[start:] + states[:start]
        states.sort(key=lambda item: isinstance(item[1], str) or route not in item[1])
        return [proxy for proxy, _ in [*states, states[0]]]

    def _attempt(self, name: str, proxy: str, route: str, body: bytes | None, deadline: float) -> bytes:
        import urllib3

        if (left := deadline - time.monotonic()) <= 0:
            raise QueueTimeout(name)
        try:
            response = self._pool.request(
                "GET" if body is None else "POST",
                f"http://{proxy}{route}",
                body=body,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
            )
        except urllib3.exceptions.ReadTimeoutError:
            raise QueueTimeout(name) from None
        except urllib3.exceptions.HTTPError as error:
            raise ClusterUnavailable(name, f"{proxy}: {reason_of(error)}") from None
        if response.status != 200:
            raise _error_of(name, response)
        return response.data

    def _follow(self, proxy: str) -> None:
        while not self._closed.wait(POLL_SECONDS):
            self._poll(proxy)

    def _poll(self, proxy: str) -> None:
        import urllib3

        state: frozenset[str] | str
        try:
            timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=2 * CONNECT_SECONDS)
            response = self._pool.request("GET", f"http://{proxy}/-/routes", timeout=timeout)
            text = response.data.decode(errors="replace")
            state = frozenset(json.loads(text)) if response.status == 200 else f"{response.status} {text[:200]}"
        except (urllib3.exceptions.HTTPError, ValueError, TypeError) as error:
            state = reason_of(error)
        with self._lock:
            before, self.states = self.lost, {**self.states, proxy: state}
        if bool(self.lost) != bool(before):
            log.warning("the cluster is %s", f"lost: {self.lost}" if self.lost else "there again")


def _error_of(name: str, response: urllib3.BaseHTTPResponse) -> DimpleError:
    """Return the error for a response of a proxy, or of our replica, which rejects a request with 422."""
    text = response.data.decode(errors="replace").strip()[:500]
    if response.status == 422:
        return ModelFormatError(text)
    if response.status == 429 or "backpressure" in text:
        return QueueFull(name)
    if kind := {404: NoReplica, 408: QueueTimeout}.get(response.status):
        return kind(name)
    return ClusterUnavailable(name, f"it answers {response.status} {text}")


def proxies_of(settings: Settings) -> tuple[str, ...]:
    """Return the addresses of the cluster's proxies; empty if the server has no cluster.

    :raises ClusterError: if the setting contains an invalid address.
    """
    addresses = tuple(part.strip() for part in settings.cluster.split(",") if part.strip())
    if not addresses:
        return (f"127.0.0.1:{HTTP_PORT}",) if settings.engine == "ray" else ()
    for address in addresses:
        if not (match := ADDRESS.fullmatch(address)) or int(match[2]) in (0, RAY_PORT) or int(match[2]) > 65535:
            example = f"host:{HTTP_PORT},host:{HTTP_PORT}, not Ray's own port {RAY_PORT}"
            raise ClusterError(f"DIMPLE_CLUSTER holds {address!r}. Name the HTTP proxies of Ray Serve: {example}")
    return addresses


@lru_cache
def serve_client(proxies: tuple[str, ...]) -> ServeClient:
    """Return this process's only client of a cluster."""
    return ServeClient(proxies)
