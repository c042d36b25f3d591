"""Headers that every response carries. They are put together once, when the application is."""

from __future__ import annotations

from flask import Response, request

from app.settings import Settings
from app.web.around.guard import takes_token

POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
PICTURE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Of pictures that somebody has sent: were one taken for a page, it could do nothing."""
PERMISSIONS = "camera=(self), microphone=(), geolocation=(), payment=(), usb=()"
"""What pages may ask of a browser: /live and /gate use the camera."""
PREFLIGHT_SECONDS = "600"
"""For how long a browser need not ask again whether it may ask."""

Pairs = list[tuple[str, str]]


class Fixed:
    """The headers by kind of response: of programs' answers, of pages, of pictures that were sent."""

    def __init__(self, settings: Settings) -> None:
        self.cors = _cors(settings)
        # Another site's page may show an answer of ours as a picture or script only where it may read it, too.
        other_sites = "cross-origin" if settings.cors_allowed_origin else "same-origin"
        always = [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", other_sites),
            *_transport(settings),
            *self.cors,
        ]
        self.plain: Pairs = [("Content-Security-Policy", POLICY), *always]
        self.page: Pairs = [
            *self.plain,
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Permissions-Policy", PERMISSIONS),
        ]
        self.picture: Pairs = [("Content-Security-Policy", PICTURE_POLICY), ("Content-Disposition", "inline"), *always]

    def add(self, response: Response) -> None:
        """Add those of a response that it has not."""
        headers = response.headers
        there = {name.lower() for name, _ in headers}
        for name, value in self.of(response):
            if name.lower() not in there:
                headers.add(name, value)

    def of(self, response: Response) -> Pairs:
        """Those of a response. Files that we bring ourselves, such as the logo, are no pictures that were sent."""
        kind = response.content_type or ""
        if kind.startswith("text/html"):
            return self.page
        if kind.startswith("image/") and not (request.endpoint or "").endswith("static"):
            return self.picture
        return self.plain


def answer_preflight() -> Response | None:
    """A browser asks, before it lets another site's page send a request, whether it may; the question carries no token,
    so it is answered before one is asked for."""
    environ = request.environ
    if environ["REQUEST_METHOD"] != "OPTIONS":
        return None
    if "HTTP_ORIGIN" not in environ or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
        return None  # OPTIONS of a program: it wants the description of the API, or of a model
    if request.routing_exception is None and not takes_token():
        return None  # that description, as Multi Model Server answers a browser, too
    return Response(status=204, headers={"Access-Control-Max-Age": PREFLIGHT_SECONDS})


def _cors(settings: Settings) -> Pairs:
    """As Multi Model Server has it: the settings' words, in every answer."""
    told = (
        ("Access-Control-Allow-Origin", settings.cors_allowed_origin),
        ("Access-Control-Allow-Methods", settings.cors_allowed_methods),
        ("Access-Control-Allow-Headers", settings.cors_allowed_headers),
    )
    return [(name, value) for name, value in told if value]


def _transport(settings: Settings) -> Pairs:
    """Browsers take HSTS for the whole host, whatever the port: where one port speaks plain HTTP it must not be sent.
    In an answer over plain HTTP they disregard it (RFC 6797, section 8.1)."""
    if settings.certificate_file and settings.https == "both" and settings.hsts_seconds:
        return [("Strict-Transport-Security", f"max-age={settings.hsts_seconds}")]
    return []
