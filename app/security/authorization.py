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
    """A request, as far as the gate looks at it.

    :param tokens: those that it carries; the first that is known counts.
    :param address: of the client; empty where it came through a socket in the file system.
    """

    tokens: Sequence[str]
    address: str


class Authorizer:
    """One for each process. What the settings say is worked out once; a request that needs no token, where no rate is
    set, costs a comparison or two."""

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
        """Return whether what the role is for takes a token at this moment."""
        if role == PREDICTION:
            return self._predictions
        return self._always or self._tokens.guard_management()

    def is_open(self, role: str) -> bool:
        """Return whether everybody may, as often as they like: then nothing of the request need be looked at."""
        return self._rate is None and not self.requires_token(role)

    def authorize(self, role: str, credentials: Credentials) -> Token | None:
        """Let a request pass, and count it.

        :returns: the token that it showed, if it showed one that is good.
        :raises TokenRequired: where it shows none.
        :raises InvalidToken: where it shows one that is unknown or expired.
        :raises InsufficientRole: where its token is for something less.
        :raises TooManyRequests: where its client asks too often.
        """
        if self.is_open(role):
            return None
        token = self._checked(role, credentials) if self.requires_token(role) else self._found(credentials)
        if self._rate:
            client = f"token {token.id}" if token else f"address {client_key(credentials.address)}"
            self._take(client, self._rate)
        return token

    def check(self, role: str, credentials: Credentials) -> Token:
        """Return the token of a request that needs one, whether or not the role takes one now; raises as
        :meth:`authorize`."""
        return self._checked(role, credentials)

    def _checked(self, role: str, credentials: Credentials) -> Token:
        if not credentials.tokens:
            raise TokenRequired(role)
        token = self._found(credentials)
        if token is None or token.is_expired():
            # Good tokens go on being let in: nobody guesses 256 bits at any rate, so this guards the log and the
            # processor, and must not let one client lock out the others behind its address.
            if self._failures:
                self._take(f"failures {client_key(credentials.address)}", self._failures)
            raise InvalidToken(role, expired=token is not None)
        if not token.allows(role):
            raise InsufficientRole(token.name, token.role, role)
        return token

    def _found(self, credentials: Credentials) -> Token | None:
        """Return the best of the tokens shown: one that is good, else one that was."""
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
    """Refuse to let strangers manage: who may register a model may run code.

    :param text: what opens management, as its user has written it; the setting where it is not given.
    :param override: what its user would write to say that it is meant so.
    :raises LaunchError: where management is reached from other machines, and there is no token for it.
    :raises TokenError: where the tokens cannot be read.
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
"""Bits of an IPv6 address that tell clients apart: the rest is any client's own to choose (RFC 4291, section 2.5.1)."""


def is_local(host: str) -> bool:
    """Return whether what listens there is reached from this machine alone: loopback, or a socket in the file
    system."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # some other name; nobody knows today where it will point


@lru_cache(maxsize=4096)
def client_key(address: str) -> str:
    """Whom an address stands for: an IPv4 address for itself, one of IPv6 for its network; empty, through a socket."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 6 and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    if parsed.version == 6:
        return str(ipaddress.ip_network((int(parsed) >> NETWORK << NETWORK, NETWORK)))
    return str(parsed)
