"""Who is asking: a program or a browser."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.datastructures import MIMEAccept

PROGRAMS_ONLY = ("/predict", "/healthz", "/readyz")


def wants_html() -> bool:
    """Say whether the answer should be a page: the client prefers HTML, and the route has pages at all."""
    if request.path.startswith(PROGRAMS_ONLY):
        return False
    return accepted_type(["application/json", "text/html"]) == "text/html"


def accepted_type(types: Sequence[str]) -> str | None:
    """Return which of the types the client prefers, whatever parameters it gives, such as a charset.

    :param types: without parameters, the most fitting first.
    :returns: None if the client accepts none of them.
    """
    accepted = MIMEAccept((text.partition(";")[0].strip(), quality) for text, quality in request.accept_mimetypes)
    return accepted.best_match(types)
