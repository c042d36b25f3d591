"""Which routes take a token, and where a request carries it (RFC 6750; for browsers a cookie)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from flask import Flask, Response, current_app, g, request

from app.errors import (
    DimpleError,
    InsufficientRole,
    InvalidToken,
    TokenRequired,
    TooManyRequests,
    UnsupportedContentEncoding,
)
from app.security.authorization import Authorizer, Credentials
from app.security.tokens import MANAGEMENT, PREDICTION
from app.web.csrf import check_same_origin
from app.web.ports import BOTH
from app.web.ports import MANAGEMENT as MANAGEMENT_ROOMS

COOKIES = {PREDICTION: "dimple-token", MANAGEMENT: "dimple-manage-token"}
"""Cookies know no ports: with one name for both, a login to predict would end one to manage."""
OPEN = ("static", "manage.static", "mms.ping", "oip.live", "oip.ready")
"""Endpoints for all, beside those of the rooms that answer at both ports: health, documents, login."""
METRICS = "/metrics"
"""Tells what is asked of whom: for those who manage, where not everybody may."""
SAFE = ("GET", "HEAD", "OPTIONS")
SCHEME = "bearer "
REFUSED = (401, 403, 415, 429)


def init_auth(app: Flask) -> None:
    """Prepare what :func:`check_access` goes by."""
    app.extensions["gate"] = Authorizer(app.extensions["dimple"].settings)
    app.extensions["roles"] = _Roles(app)


def check_access() -> None:
    """Ask the present request for a token where one is wanted, and count it where a rate is set.

    :raises DimpleError: as :meth:`app.security.authorization.Authorizer.admit`.
    """
    role, auth = _role(), authorizer()
    if role is None or auth.is_open(role):
        return
    with refusing():
        auth.authorize(role, credentials(role))


@contextmanager
def refusing() -> Iterator[None]:
    """Remember why a request is refused: each API has its own words for it, and all have the same headers."""
    try:
        yield
    except DimpleError as error:
        g.refused = error
        raise


def add_refusal(response: Response) -> None:
    """Add the headers that say why the present request was refused."""
    if response.status_code in REFUSED and (refused := g.get("refused")):
        response.headers.update(answer_headers(refused))


def authorizer() -> Authorizer:
    """That of the application that serves the present request."""
    return cast(Authorizer, current_app.extensions["gate"])


def takes_token() -> bool:
    """Return whether the route of the present request takes a token at this moment."""
    role = _role()
    return role is not None and authorizer().requires_token(role)


def _role() -> str | None:
    return cast(_Roles, current_app.extensions["roles"]).of(request.endpoint)


def credentials(role: str) -> Credentials:
    """Return what the present request shows. A cookie counts only where no page of another site has sent the request:
    such a page may stand on another port of this machine, and then SameSite does not keep the cookie back."""
    environ = request.environ
    address = environ.get("REMOTE_ADDR", "")
    header = environ.get("HTTP_AUTHORIZATION", "")
    if header[: len(SCHEME)].lower() == SCHEME:
        return Credentials((header[len(SCHEME) :].strip(),), address)
    if "dimple-" not in environ.get("HTTP_COOKIE", ""):
        return Credentials((), address)
    names = COOKIES.values() if role == PREDICTION else (COOKIES[MANAGEMENT],)
    tokens = tuple(token for name in names if (token := request.cookies.get(name)))
    if tokens and request.method not in SAFE:
        check_same_origin()
    return Credentials(tokens, address)


def answer_headers(error: Exception) -> Mapping[str, str]:
    """Return what an error's answer says in its headers: how to be let in, or when to come again."""
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(max(1, round(error.seconds + 0.5)))}
    if isinstance(error, UnsupportedContentEncoding):
        return {"Accept-Encoding": error.accepted}
    if isinstance(error, TokenRequired | InsufficientRole):
        return {"WWW-Authenticate": challenge(error)}
    return {}


def challenge(error: DimpleError) -> str:
    """Return the challenge of RFC 6750, section 3: without an error code where the request showed no token at all."""
    if isinstance(error, InsufficientRole):
        return f'Bearer realm="Dimple", error="insufficient_scope", scope="{error.wanted}"'
    if isinstance(error, InvalidToken):
        return f'Bearer realm="Dimple", error="invalid_token", error_description="The token {error.reason}"'
    return 'Bearer realm="Dimple"'


class _Roles:
    """The role that each endpoint takes; those that are not there are for all."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._found: dict[str | None, str] = {}

    def of(self, endpoint: str | None) -> str | None:
        """Return the role of an endpoint; None where it is for all."""
        if not self._found:  # at the first request every route is there
            self._found = dict(self._pairs())
        return self._found.get(endpoint)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for rule in self._app.url_map.iter_rules():
            blueprint = rule.endpoint.rpartition(".")[0]
            if rule.rule == METRICS:
                yield rule.endpoint, MANAGEMENT
            elif rule.endpoint not in OPEN and blueprint not in BOTH:
                yield rule.endpoint, MANAGEMENT if blueprint in MANAGEMENT_ROOMS else PREDICTION
