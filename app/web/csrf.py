"""Whose pictures these are: a cookie with a random number, which is given to whoever sends a picture.

There are no accounts. Who has the cookie sees, deletes and corrects what was sent with it; a result's address shows
that one result to anybody.
"""

from __future__ import annotations

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
"""What a browser on this machine calls it."""


def visitor() -> str:
    """Return the number in the request's cookie, or the one that it is about to get; empty where there is none."""
    return str(g.get("visitor") or _in_cookie())


def _in_cookie() -> str:
    number = request.cookies.get(COOKIE, "")
    return number if SECRET.fullmatch(number) else ""


def visitor_or_new() -> str:
    """Return the same, or a new one for :func:`remember`."""
    g.visitor = visitor() or secrets.token_hex(24)
    return str(g.visitor)


def remember(response: Response, number: str) -> Response:
    """Give a browser its number; scripts and other sites' pages do not get it."""
    if number and number != _in_cookie():
        response.set_cookie(
            COOKIE, number, max_age=SECONDS, httponly=True, samesite="Lax", secure=request.is_secure, path="/"
        )
    return response


def check_same_origin() -> None:
    """Refuse what another site's page has a browser send.

    Browsers say in Sec-Fetch-Site, or else in Origin, whose page it was; programs send neither.

    :raises Forbidden: where it was another site's.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = site in ("same-origin", "none") if site else origin in (None, request.host_url.rstrip("/"))
    if not ours:
        raise Forbidden("The request came from another site's page. Open Dimple's own page, and try again there.")


def check_addressed_here() -> None:
    """Refuse what is sent to management on this machine by a name that is not this machine's.

    The owner of a name may point it here after a browser has loaded a page from it (DNS rebinding). The browser then
    takes management for a part of that page's site: it lets the page read it, and sends neither Origin nor a site.

    :raises Forbidden: if it was another name.
    """
    if services().settings.management_host not in HERE:
        return
    host = HOST.fullmatch(request.environ.get("HTTP_HOST", "localhost"))
    if host is None or host[1].lower().strip("[]") not in HERE:
        host_name = request.environ.get("HTTP_HOST", "")
        raise Forbidden(
            f"Management listens on this machine alone, and is not called {host_name[:80]!r}. Use http://localhost."
        )
