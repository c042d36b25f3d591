"""Free ports for servers that tests and benches start."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20000, 32000
"""Below the ports that the system gives to clients: one of those could take the port before its server does."""

_reserved: list[socket.socket] = []
"""Bound and not listening, until this process ends: nobody else finds their ports free, and a server that sets
SO_REUSEADDR, as they all do, may listen there."""


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that are free, and stay so for a server of the caller's own."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(LOWEST, HIGHEST)
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            one.close()
            continue
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _reserved.append(one)
        found.append(port)
    return found
