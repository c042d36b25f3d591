"""Headers that every response carries."""

from __future__ import annotations

from flask import Flask, Response

POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"


def protect(app: Flask) -> None:
    """Let browsers run nothing but our own files, and guess no content types."""

    def add(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    app.after_request(add)
