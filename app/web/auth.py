"""Access tokens: the routes that require a token, and its place in a request (RFC 6750; a cookie for browsers)."""

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
"""Cookie of each role. Cookies ignore ports: with a shared name, a prediction login would end a management login."""
OPEN = ("static", "manage.static", "mms.ping", "oip.live", "oip.ready")
"""Endpoints without a token, besides health, documents and login, whose blueprints answer at both ports."""
METRICS = "/metrics"
"""Path of the metrics, which reveal the requests of each model; they require the management role."""
SAFE = ("GET", "HEAD", "OPTIONS")
SCHEME = "bearer "
REFUSED = (401, 403, 415, 429)


def init_auth(app: Flask) -> None:
    """Set up the authorizer and the roles for :func:`check_access`."""
    app.extensions["gate"] = Authorizer(app.extensions["dimple"].settings)
    app.extensions["roles"] = _Roles(app)


def check_access() -> None:
    """Check the token of the current request if its route requires one, and apply the rate limit if one is set.

    :raises DimpleError: as :meth:`app.security.authorization.Authorizer.admit`.
    """
    role, auth = _role(), authorizer()
    if role is None or auth.is_open(role):
        return
    with refusing():
        auth.authorize(role, credentials(role))


@contextmanager
def refusing() -> Iterator[None]:
    """Record the error that rejects a request: each API has its own error format, but the headers are the same."""
    try:
        yield
    except DimpleError as error:
        g.refused = error
        raise


def add_refusal(response: Response) -> None:
    """Add the headers that explain why the current request was rejected."""
    if response.status_code in REFUSED and (refused := g.get("refused")):
        response.headers.update(answer_headers(refused))


def authorizer() -> Authorizer:
    """Return the authorizer of the application that serves the current request."""
    return cast(Authorizer, current_app.extensions["gate"])


def takes_token() -> bool:
    """Return whether the route of the current request requires a token at this moment."""
    role = _role()
    return role is not None and authorizer().requires_token(role)


def _role() -> str | None:
    return cast(_Roles, current_app.extensions["roles"]).of(request.endpoint)


def credentials(role: str) -> Credentials:
    """Return the credentials of the current request.

    A cookie counts only if the request does not come from a page of another site. Such a page may be served from
    another port of this machine, and SameSite then does not withhold the cookie.
    """
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
    """Return the headers of an error response: how to authenticate, or when to retry."""
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(max(1, round(error.seconds + 0.5)))}
    if isinstance(error, UnsupportedContentEncoding):
        return {"Accept-Encoding": error.accepted}
    if isinstance(error, TokenRequired | InsufficientRole):
        return {"WWW-Authenticate": challenge(error)}
    return {}


def challenge(error: DimpleError) -> str:
    """Return the challenge of RFC 6750, section 3, without an error code if the request carried no token."""
    if isinstance(error, InsufficientRole):
        return f'Bearer realm="Dimple", error="insufficient_scope", scope="{error.required}"'
    if isinstance(error, InvalidToken):
        return f'Bearer realm="Dimple", error="invalid_token", error_description="The token {error.reason}"'
    return 'Bearer realm="Dimple"'


class _Roles:
    """Role that each endpoint requires. Endpoints without a role are open to everyone."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._found: dict[str | None, str] = {}

    def of(self, endpoint: str | None) -> str | None:
        """Return the role of an endpoint; None if it is open to everyone."""
        if not self._found:  # all routes are registered by the first request
            self._found = dict(self._pairs())
        return self._found.get(endpoint)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for rule in self._app.url_map.iter_rules():
            blueprint = rule.endpoint.rpartition(".")[0]
            if rule.rule == METRICS:
                yield rule.endpoint, MANAGEMENT
            elif rule.endpoint not in OPEN and blueprint not in BOTH:
                yield rule.endpoint, MANAGEMENT if blueprint in MANAGEMENT_ROOMS else PREDICTION
