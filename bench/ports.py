"""Ports for servers that tests and benches start."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20000, 32000
"""Below those that the system gives to clients, which would else take one before its server does."""


def free_ports(count: int) -> list[int]:
    """So many ports of this machine that nobody listens on at this moment."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(LOWEST, HIGHEST)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
