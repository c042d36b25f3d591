"""Ownership of images: a cookie with a random number, set for every client that uploads an image.

There are no accounts. The holder of the cookie can see, delete and correct the images uploaded with it; the address of
a result shows that one result to anybody.
"""

from __future__ import annotations

import hmac
import re
import secrets

from flask import Response, g, request
from werkzeug.exceptions import Forbidden

from app.web.request import services

COOKIE = "dimple"
SECRET = re.compile(r"[0-9a-f]{48}")
SECONDS = 365 * 24 * 3600
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::[0-9]+)?")
HERE = ("127.0.0.1", "localhost", "::1")
"""Names of this machine in a local browser."""


def visitor() -> str:
    """Return the visitor's number from the cookie, or the new number of this request; empty if there is neither."""
    return str(g.get("visitor") or _in_cookie())


def _in_cookie() -> str:
    number = request.cookies.get(COOKIE, "")
    return number if SECRET.fullmatch(number) else ""


def visitor_or_new() -> str:
    """Return the visitor's number, or a new one for :func:`remember`."""
    g.visitor = visitor() or secrets.token_hex(24)
    return str(g.visitor)


def remember(response: Response, number: str) -> Response:
    """Set the visitor's cookie, which scripts and pages of other sites cannot read."""
    if number and number != _in_cookie():
        response.set_cookie(
            COOKIE, number, max_age=SECONDS, httponly=True, samesite="Lax", secure=request.is_secure, path="/"
        )
    return response


def check_same_origin() -> None:
    """Reject requests that a page of another site made the browser send.

    Browsers identify the page's site in Sec-Fetch-Site, or else in Origin; other programs send neither.

    :raises Forbidden: if the request comes from a page of another site.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = site in ("same-origin", "none") if site else origin in (None, request.host_url.rstrip("/"))
    if not ours:
        raise Forbidden("The request came from another site's page. Open Dimple's own page, and try again there.")


FORM_COOKIE = "dimple-manage"
"""Cookie of the management pages, which browsers do not send from pages of other sites."""


def form_token() -> str:
    """Return the token for the forms of a management page: the cookie's, or a new one."""
    return request.cookies.get(FORM_COOKIE) or secrets.token_hex(24)


def add_form_cookie(response: Response, token: str, path: str) -> Response:
    """Set the cookie that forms are checked against, for the pages below ``path``; nobody caches the page."""
    response.set_cookie(FORM_COOKIE, token, httponly=True, samesite="Strict", secure=request.is_secure, path=path)
    response.headers["Cache-Control"] = "no-store"
    return response


def check_form() -> None:
    """Check that a form was sent by a management page of this server.

    :raises Forbidden: if it was not.
    """
    check_same_origin()
    token, cookie = request.form.get("token", ""), request.cookies.get(FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(token.encode(), cookie.encode()):
        raise Forbidden("The form is not the page's own, or the browser keeps no cookies. Load the page again.")


def check_addressed_here() -> None:
    """Reject requests to a management API on loopback that use a host name other than this machine's.

    The owner of a domain may point its name here after a browser has loaded a page from it (DNS rebinding). The browser
    then treats management as part of that page's site: the page can read it, and neither Origin nor Sec-Fetch-Site is
    sent.

    :raises Forbidden: if the Host header has another name.
    """
    if services().settings.management_host not in HERE:
        return
    host = HOST.fullmatch(request.environ.get("HTTP_HOST", "localhost"))
    if host is None or host[1].lower().strip("[]") not in HERE:
        host_name = request.environ.get("HTTP_HOST", "")
        raise Forbidden(
            f"Management listens on this machine alone, and is not called {host_name[:80]!r}. Use http://localhost."
        )
