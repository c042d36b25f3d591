"""A policy of URLs and addresses that a server may fetch for clients, against server-side request forgery (CWE-918).

A client that makes a server fetch a URL could reach addresses that only the server reaches: the machine itself, its
private network, a cloud's metadata service. So a name is resolved once, all its addresses are checked, and the
connection goes to a checked address, not to the name. A name server gains nothing by a different second response.
Redirects are followed one by one, and each is checked like the first URL.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from app.errors import UrlNotAllowed

REDIRECTS = 5
REDIRECT_CODES = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}

# Only these IPv6 addresses are allocated on the internet (IANA, IPv6 Global Unicast Address Space).
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# IANA's registries of special-purpose addresses (RFC 6890), multicast and reserved addresses, and addresses of clouds'
# own services that look public. Python's own list depends on its version.
NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
# Refused even if private addresses are allowed: link-local ones, and metadata services elsewhere.
FORBIDDEN = [
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "168.63.129.16/32", "100.100.100.200/32")
]
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Prefix of addresses whose last 32 bits are an IPv4 address (RFC 6052)."""
LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[..., Any]


def is_public(address: str) -> bool:
    """Return whether an address is public on the internet.

    :param address: IPv4 or IPv6; an IPv6 address with an embedded IPv4 address is judged by that.
    """
    parsed = _plain(address)
    if parsed.version == 6 and parsed not in GLOBAL_UNICAST:
        return False
    return not any(parsed in network for network in NOT_PUBLIC if network.version == parsed.version)


def is_forbidden(address: str) -> bool:
    """Return whether an address is refused even if private ones are allowed."""
    return any(
        item in network
        for item in _embedded_addresses(_plain(address))
        for network in FORBIDDEN
        if network.version == item.version
    )


def _embedded_addresses(address: Address) -> list[Address]:
    """Return an address, with the IPv4 addresses to which translators and tunnels may map it: 6to4 (RFC 3056), Teredo
    (RFC 4380), NAT64 for local use (RFC 8215, 6052), and the old IPv4-compatible form (RFC 4291)."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    addresses: list[Address] = [address, *(address.teredo or ())]
    if address.sixtofour:
        addresses.append(address.sixtofour)
    number = int(address)
    if address in LOCAL_NAT64:
        addresses.append(ipaddress.IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF))
    if address in LOCAL_NAT64 or number < 2**32:
        addresses.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return addresses


def _plain(address: str) -> Address:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return parsed.ipv4_mapped
        if parsed in NAT64:
            return ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed


@dataclass(frozen=True)
class FetchPolicy:
    """The policy of URLs that may be fetched.

    :param schemes: subset of ``http`` and ``https``.
    :param hosts: patterns of names, such as ``*.example.org``; empty allows all.
    :param private: whether private addresses are allowed, and proxies of the environment, which resolve names
        themselves.
    :param most_bytes: maximum size of one file; 0 means no limit.
    :param resolve: :func:`socket.getaddrinfo`, or an equivalent.
    """

    schemes: tuple[str, ...] = ("http", "https")
    hosts: tuple[str, ...] = ()
    private: bool = False
    most_bytes: int = 0
    resolve: Resolve = field(default=socket.getaddrinfo, compare=False)

    def check(self, url: str) -> SplitResult:
        """Check a URL without resolving its name.

        :raises UrlNotAllowed: if its scheme or host is not allowed.
        """
        try:
            parts = urlsplit(url)
            host = _name(parts)
            parts.port  # noqa: B018  it raises if the port is not a number
        except ValueError:
            raise UrlNotAllowed(url, "it is no URL", "Correct it") from None
        if parts.scheme not in self.schemes or not host:
            schemes = " or ".join(self.schemes)
            raise UrlNotAllowed(
                url, f"its scheme must be {schemes}", "Use another URL, or set DIMPLE_MODEL_URL_SCHEMES"
            )
        if self.hosts and not any(fnmatch.fnmatchcase(host, pattern) for pattern in self.hosts):
            raise UrlNotAllowed(url, f"models are not fetched from {host}", "Name it in DIMPLE_MODEL_URL_HOSTS")
        return parts

    def addresses(self, url: str, parts: SplitResult) -> list[str]:
        """Return the addresses of a URL's host.

        :raises UrlNotAllowed: if one of its addresses is not allowed.
        :raises OSError: if it has none.
        """
        port = parts.port or PORTS[parts.scheme]
        try:
            infos = self.resolve(parts.hostname, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise UrlNotAllowed(url, "its host is not a name", "Correct it") from None
        addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        if not addresses:
            raise OSError(f"{parts.hostname} has no address")
        for address in addresses:
            if is_forbidden(address):
                raise UrlNotAllowed(url, f"{parts.hostname} is a link-local or metadata address", "Use another server")
            if not self.private and not is_public(address):
                reason = f"{parts.hostname} has an address that is not public"
                raise UrlNotAllowed(url, reason, "If it is meant so, set DIMPLE_MODEL_URL_PRIVATE=true")
        return addresses

    @contextmanager
    def opened(self, url: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> Iterator[Any]:
        """Request a URL, and follow its redirects.

        :param timeout: seconds for the connection, and for the next bytes.
        :returns: the response, a ``requests.Response`` with an unread body.
        :raises UrlNotAllowed: if the URL or one of its redirects is not allowed.
        :raises requests.RequestException: if no server answers.
        """
        for _ in range(REDIRECTS + 1):
            parts = self.check(url)
            with self._response(url, parts, headers, timeout) as response:
                to = response.headers.get("Location", "")
                if response.status_code not in REDIRECT_CODES or not to:
                    yield response
                    return
            target = urljoin(url, to)
            if parts.scheme == "https" and urlsplit(target).scheme != "https":
                raise UrlNotAllowed(
                    target, f"{parts.hostname} leads from https to it", "Use the server that has the file"
                )
            url = target
        raise UrlNotAllowed(url, f"it is the end of more than {REDIRECTS} redirects", "Use the URL that they lead to")

    @contextmanager
    def _response(
        self, url: str, parts: SplitResult, headers: Mapping[str, str], timeout: tuple[float, float]
    ) -> Iterator[Any]:
        import requests

        proxies = requests.utils.get_environ_proxies(url) if self.private else {}
        if requests.utils.select_proxy(url, proxies):
            with _session() as session:
                yield session.get(
                    url, headers=dict(headers), stream=True, allow_redirects=False, timeout=timeout, proxies=proxies
                )
            return
        try:
            addresses = self.addresses(url, parts)
        except OSError as error:
            raise requests.ConnectionError(f"{parts.hostname}: {error}") from None
        with _session() as session:
            yield _first_response(session, parts, addresses, headers, timeout)


def _name(parts: SplitResult) -> str:
    """Return a URL's host in the ASCII form of name servers.

    :raises UnicodeError: if it has none.
    """
    return (parts.hostname or "").rstrip(".").encode("idna").decode()


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def fetch_policy(settings: Any) -> FetchPolicy:
    hosts = (part.strip().lower().rstrip(".") for part in settings.model_url_hosts.split(","))
    return FetchPolicy(
        schemes=tuple(settings.model_url_schemes.split(",")),
        hosts=tuple(host for host in hosts if host),
        private=settings.model_url_private,
        most_bytes=settings.max_model_bytes,
    )


def _session() -> Any:
    """Return a session that ignores the environment, such as passwords for hosts (``.netrc``), except for its
    certificate authorities."""
    import requests

    session = requests.Session()
    session.trust_env = False
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    return session


def _first_response(
    session: Any, parts: SplitResult, addresses: list[str], headers: Mapping[str, str], timeout: tuple[float, float]
) -> Any:
    """Request the addresses in turn. The URL's own name is sent as Host and in TLS (SNI), and the server's certificate
    must match it."""
    import requests

    name = _name(parts)
    if parts.scheme == "https":
        session.mount("https://", _named_adapter(name))
    port = f":{parts.port}" if parts.port else ""
    login = (parts.username or "", parts.password or "") if parts.username is not None else None
    for number, address in enumerate(addresses, 1):
        target = urlunsplit((parts.scheme, _literal(address) + port, parts.path or "/", parts.query, ""))
        try:
            return session.get(
                target,
                headers={**headers, "Host": _literal(name) + port},
                auth=login,
                stream=True,
                allow_redirects=False,
                timeout=timeout,
            )
        except requests.ConnectionError:
            if number == len(addresses):
                raise
    raise requests.ConnectionError(f"{name} has no address")


def _named_adapter(name: str) -> Any:
    from requests.adapters import HTTPAdapter

    class Named(HTTPAdapter):  # type: ignore[misc]
        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            super().init_poolmanager(*args, server_hostname=name, assert_hostname=name, **more)

    return Named()
