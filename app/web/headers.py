"""Headers that every response carries."""

from __future__ import annotations

from flask import Flask, Response

from app.web.context import dimple

POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"


def protect(app: Flask) -> None:
    """Let browsers run nothing but our own files, and guess no content types; let other sites' pages ask what the
    settings allow them to ask."""

    def add(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        settings = dimple().settings
        for name, value in (
            ("Access-Control-Allow-Origin", settings.cors_allowed_origin),
            ("Access-Control-Allow-Methods", settings.cors_allowed_methods),
            ("Access-Control-Allow-Headers", settings.cors_allowed_headers),
        ):
            if value:
                response.headers.setdefault(name, value)
        return response

    app.after_request(add)
