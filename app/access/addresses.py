"""Where a server listens, and who asks."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

NETWORK = 64
"""Bits of an IPv6 address that tell clients apart: the rest is any client's own to choose (RFC 4291, section 2.5.1)."""


def is_local(host: str) -> bool:
    """Whether what listens there is reached from this machine alone: loopback, or a socket in the file system."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # some other name; nobody knows today where it will point


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """Whom an address stands for: an IPv4 address for itself, one of IPv6 for its network; empty, through a socket."""
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if one.version == 6 and one.ipv4_mapped:
        return str(one.ipv4_mapped)
    if one.version == 6:
        return str(ipaddress.ip_network((int(one) >> NETWORK << NETWORK, NETWORK)))
    return str(one)
