"""Authorization and rate limits of protected endpoints, without HTTP."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.errors import InsufficientRole, InvalidToken, LaunchError, TokenRequired, TooManyRequests
from app.security.rate_limit import Rate, RateLimiter
from app.security.tokens import MANAGEMENT, PREDICTION, Token, TokenCache, find_token, read_tokens, tokens_path
from app.settings import PREFIX, Settings

MINUTE = 60


@dataclass(frozen=True)
class Credentials:
    """The credentials of a request.

    :param tokens: the request's tokens; the first known one counts.
    :param address: address of the client; empty for a socket in the file system.
    """

    tokens: Sequence[str]
    address: str


class Authorizer:
    """The authorizer of one process. It evaluates the settings once. Without a required token and a rate limit, a
    request costs a comparison or two."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = TokenCache(tokens_path(settings))
        self._path = settings.instance_dir / "rates.table"
        self._rates: RateLimiter | None = None
        rate, burst = settings.rate_limit, settings.rate_burst or settings.rate_limit
        self._rate = Rate(rate, burst) if rate else None
        failures = settings.failed_tokens
        self._failures = Rate(failures / MINUTE, failures) if failures else None
        self._predictions = settings.prediction_tokens
        self._always = not (settings.management_without_token or is_local(settings.management_host))

    def requires_token(self, role: str) -> bool:
        if role == PREDICTION:
            return self._predictions
        return self._always or self._tokens.guard_management()

    def is_open(self, role: str) -> bool:
        """Return whether the role requires no token and has no rate limit, so that the request need not be examined."""
        return self._rate is None and not self.requires_token(role)

    def authorize(self, role: str, credentials: Credentials) -> Token | None:
        """Authorize a request, and count it.

        :returns: the request's valid token, if it has one.
        :raises TokenRequired: if it has no token.
        :raises InvalidToken: if its token is unknown or expired.
        :raises InsufficientRole: if its token's role is insufficient.
        :raises TooManyRequests: if its client exceeds the rate.
        """
        if self.is_open(role):
            return None
        token = self._checked(role, credentials) if self.requires_token(role) else self._found(credentials)
        if self._rate:
            client = f"token {token.id}" if token else f"address {client_key(credentials.address)}"
            self._take(client, self._rate)
        return token

    def check(self, role: str, credentials: Credentials) -> Token:
        """Return the token of a request that needs one even if the role currently requires none. Raises the errors of
        :meth:`authorize`."""
        return self._checked(role, credentials)

    def _checked(self, role: str, credentials: Credentials) -> Token:
        if not credentials.tokens:
            raise TokenRequired(role)
        token = self._found(credentials)
        if token is None or token.is_expired():
            # Valid tokens are still accepted: nobody guesses 256 bits at any rate, so this protects the log and the
            # processor, and must not let one client lock out the others behind its address.
            if self._failures:
                self._take(f"failures {client_key(credentials.address)}", self._failures)
            raise InvalidToken(role, expired=token is not None)
        if not token.allows(role):
            raise InsufficientRole(token.name, token.role, role)
        return token

    def _found(self, credentials: Credentials) -> Token | None:
        """Return the best of the request's tokens: a valid one, or else an expired one."""
        if not credentials.tokens:
            return None
        known = self._tokens.entries()
        matches = [token for text in credentials.tokens if (token := find_token(text, known))]
        good = [token for token in matches if not token.is_expired()]
        return max(good, key=lambda token: token.allows(MANAGEMENT)) if good else next(iter(matches), None)

    def _take(self, client: str, rate: Rate) -> None:
        if self._rates is None:
            self._rates = RateLimiter(self._path)
        if wait := self._rates.hit(client, rate):
            raise TooManyRequests(wait)


def check_exposed_management(settings: Settings, text: str = "", override: str = "") -> None:
    """Raise an error if strangers could reach the management API: a client that may register a model may run code.

    :param text: the option that opens management, as the user wrote it; by default the setting.
    :param override: the option that confirms this.
    :raises LaunchError: if management is reachable from other machines without a token for it.
    :raises TokenError: if the tokens cannot be read.
    """
    guarded = any(token.role == MANAGEMENT for token in read_tokens(tokens_path(settings)).values())
    if guarded or settings.management_without_token or is_local(settings.management_host):
        return
    raise LaunchError(
        f"{text or f'{PREFIX}MANAGEMENT_HOST={settings.management_host}'} would let everybody who reaches this machine "
        "register models, and so run code. Create a token first (dimple token add NAME --role management), or "
        f"say that it is meant so: {override or f'{PREFIX}MANAGEMENT_WITHOUT_TOKEN=true'}."
    )


NETWORK = 64
"""Bits of an IPv6 address that identify a client, which may choose the others itself (RFC 4291, section 2.5.1)."""


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address: loopback, or a socket in the file system."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name, whose address may change


@lru_cache(maxsize=4096)
def client_key(address: str) -> str:
    """Return a client's key for rate limits: an IPv4 address itself, an IPv6 address's network, empty for a socket."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 6 and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    if parsed.version == 6:
        return str(ipaddress.ip_network((int(parsed) >> NETWORK << NETWORK, NETWORK)))
    return str(parsed)
