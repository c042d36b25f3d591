"""Who is asking: a program or a browser."""

from __future__ import annotations

from flask import request

PROGRAMS_ONLY = ("/predict", "/healthz", "/readyz")


def wants_html() -> bool:
    """Say whether the answer should be a page: the client prefers HTML, and the route has pages at all."""
    if request.path.startswith(PROGRAMS_ONLY):
        return False
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
