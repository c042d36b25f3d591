"""Middleware that runs before and after every request.

From a trusted proxy only the client's address and the scheme are used. The port stays the socket's own: it separates
management from inference, and a client must not choose it.
"""

from __future__ import annotations

import io
import ipaddress
import zlib
from collections.abc import Iterable
from typing import Any, cast

from flask import Flask, Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import BadParameter, QueueFull, SettingError, UnsupportedContentEncoding
from app.settings import Settings
from app.telemetry import metrics
from app.telemetry.tracing import trace_endpoint
from app.utils.dispatch import ADMITTED, HEAD_ONLY, MAX_BODY, OVERLOADED, WouldBlock
from app.web.auth import add_refusal, check_access, init_auth, refusing, takes_token
from app.web.instrumentation import (
    add_request_id,
    begin_measuring,
    begin_request_id,
    end_request_id,
    forget_measuring,
    measure,
    trace_requests,
)
from app.web.ports import MANAGEMENT, Ports, refuse_at_port
from app.web.request import Services, inflate, services

NAME = "DIMPLE_TRUSTED_PROXIES"
EXPECTED = "a number of proxies, or a list of addresses and networks such as 10.0.0.0/8,::1,unix"
SOCKET = "unix"
SCHEMES = ("http", "https")


def trust_proxies(app: Flask, settings: Settings) -> None:
    """Use the client's address instead of the address of the last trusted proxy.

    :raises SettingError: if the setting is neither a number nor a list of networks.
    """
    value = settings.trusted_proxies.strip()
    if value.isdecimal() and int(value) <= 16:
        if int(value):
            app.wsgi_app = ProxyFix(app.wsgi_app, x_for=int(value), x_proto=int(value))  # type: ignore[method-assign]
    elif value:
        app.wsgi_app = _TrustedNetworks(app.wsgi_app, value)  # type: ignore[method-assign]


class _TrustedNetworks:
    """WSGI middleware that walks X-Forwarded-For from its end, the nearest proxy, to the first untrusted address."""

    def __init__(self, wsgi: Any, networks: str) -> None:
        self._wsgi = wsgi
        names = [part.strip() for part in networks.split(",") if part.strip()]
        self._sockets = SOCKET in names
        try:
            self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != SOCKET]
        except ValueError:
            raise SettingError(NAME, networks, EXPECTED) from None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        if self._trusts(peer):
            hops = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
            while hops:
                peer = hops.pop()
                if not self._trusts(peer):
                    break
            environ["REMOTE_ADDR"] = peer
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
            if scheme in SCHEMES:
                environ["wsgi.url_scheme"] = scheme
        result: Iterable[bytes] = self._wsgi(environ, start_response)
        return result

    def _trusts(self, address: str) -> bool:
        if not address:
            return self._sockets
        try:
            one: Any = ipaddress.ip_address(address)
        except ValueError:
            return False
        one = getattr(one, "ipv4_mapped", None) or one
        return any(one in network for network in self._networks if network.version == one.version)


GZIP = ("gzip", "x-gzip")
CHUNK = 2**16
OWN = "oip"
"""Blueprint of the Open Inference Protocol, which inflates compressed bodies by its own rules, within the same
limits."""


def inflate_body(head_only: bool = False) -> None:
    """Decompress the body of the current request.

    A compressed body would look like a broken image, and an unlimited one could fill the memory.

    :param head_only: if True, the body has not arrived yet: only check that its encoding is acceptable.
    :raises UnsupportedContentEncoding: if the encoding is not accepted.
    :raises RequestEntityTooLarge: if the decompressed body is too long.
    :raises BadParameter: if the body does not have the encoding that its headers state.
    """
    encoding = request.environ.get("HTTP_CONTENT_ENCODING")
    if encoding is None:
        return
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or request.blueprint == OWN:
        return
    settings = services().settings
    if not settings.gzip_requests or encoding not in GZIP:
        with refusing():
            raise UnsupportedContentEncoding(encoding, "gzip" if settings.gzip_requests else "identity")
    if head_only:
        return
    data = _gunzip(settings.max_request_bytes)
    request.environ.pop("HTTP_CONTENT_ENCODING")
    request.environ.update({"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))})
    request.__dict__.pop("stream", None)
    request.__dict__.pop("content_length", None)


def _gunzip(most: int) -> bytes:
    """Decompress the gzip body of the current request.

    :raises RequestEntityTooLarge: if the body exceeds ``most`` bytes, compressed or decompressed.
    :raises BadParameter: if the body is not one complete gzip stream.
    """
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge()
    stream = request.stream
    try:
        return inflate(iter(lambda: stream.read(CHUNK), b""), 16 + zlib.MAX_WBITS, most)
    except zlib.error as error:
        raise BadParameter("Content-Encoding", "gzip", f"that of the body, which is none ({error})") from None
    except EOFError:
        raise BadParameter(
            "Content-Encoding", "gzip", "that of one whole gzip stream; this one is cut off, or longer"
        ) from None


POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
PICTURE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Policy of uploaded images: harmless even if a browser rendered one as a page."""
PERMISSIONS = "camera=(self), microphone=(), geolocation=(), payment=(), usb=()"
"""Browser features that pages may use: /live and /gate need the camera."""
PREFLIGHT_SECONDS = "600"
"""Seconds for which a browser may cache a preflight response."""

Pairs = list[tuple[str, str]]


class SecurityHeaders:
    """Security headers by kind of response: API responses, pages and uploaded images."""

    def __init__(self, settings: Settings) -> None:
        self.cors = _cors(settings)
        # Pages of other sites may embed a response as an image or script only if CORS lets them read it, too.
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
        """Add the headers that the response does not have yet."""
        headers = response.headers
        there = {name.lower() for name, _ in headers}
        for name, value in self.of(response):
            if name.lower() not in there:
                headers.add(name, value)

    def of(self, response: Response) -> Pairs:
        """Return the headers of a response. Dimple's own static files, such as the logo, do not count as uploaded
        images."""
        kind = response.content_type or ""
        if kind.startswith("text/html"):
            return self.page
        if kind.startswith("image/") and not (request.endpoint or "").endswith("static"):
            return self.picture
        return self.plain


def answer_preflight() -> Response | None:
    """Return the response to a CORS preflight request; None for any other request.

    A preflight request carries no token, so it is answered before the access check.
    """
    environ = request.environ
    if environ["REQUEST_METHOD"] != "OPTIONS":
        return None
    if "HTTP_ORIGIN" not in environ or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
        return None  # OPTIONS of a non-browser client, which asks for the description of the API or of a model
    if request.routing_exception is None and not takes_token():
        return None  # the route of that description: Multi Model Server sends it to browsers, too
    return Response(status=204, headers={"Access-Control-Max-Age": PREFLIGHT_SECONDS})


def _cors(settings: Settings) -> Pairs:
    """Return the CORS headers, with the settings' values in every response as in Multi Model Server."""
    headers = (
        ("Access-Control-Allow-Origin", settings.cors_allowed_origin),
        ("Access-Control-Allow-Methods", settings.cors_allowed_methods),
        ("Access-Control-Allow-Headers", settings.cors_allowed_headers),
    )
    return [(name, value) for name, value in headers if value]


def _transport(settings: Settings) -> Pairs:
    """Return the HSTS header, if it applies.

    Browsers apply HSTS to the whole host, on every port, so it must not be sent if one port speaks plain HTTP. They
    ignore it in responses over plain HTTP (RFC 6797, section 8.1).
    """
    if settings.certificate_file and settings.https == "both" and settings.hsts_seconds:
        return [("Strict-Transport-Security", f"max-age={settings.hsts_seconds}")]
    return []


CONTINUE = 100
LONG_BODIES = ("manage.register_model", "teach.add_pictures")
"""Endpoints that accept archives, and zips of pictures."""


class Middleware:
    """Request hooks of an application."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings = settings
        self._registry = cast(Services, app.extensions["dimple"]).registry
        self._ports = app.extensions["ports"] = Ports(settings)
        self._headers = SecurityHeaders(settings)
        endpoint = trace_endpoint(settings)
        self._tracer = trace_requests(endpoint) if endpoint else None
        init_auth(app)
        app.before_request(self._before)
        app.after_request(self._after)
        app.teardown_request(self._end)

    def _before(self) -> Response | None:
        begin_request_id()
        begin_measuring()
        if self._tracer:
            self._tracer.begin()
        self._registry.refresh()  # before any lookup of a model
        # Before the access check: a preflight request carries no token.
        answer = (answer_preflight() if self._headers.cors else None) or refuse_at_port(self._ports.scope())
        return answer or self._admit()

    def _admit(self) -> Response | None:
        """Reject a request that its head shows to be unauthorized or impossible to answer.

        The body is not read unless it is compressed.

        :returns: a ``100 Continue`` response if the request's body has not arrived yet, else None.
        """
        environ = request.environ
        if not environ.get(ADMITTED):
            check_access()
        if environ.get(OVERLOADED):
            name = (request.view_args or {}).get("model") or self._settings.default_model
            metrics.requested_model.set(name)
            metrics.refused(name)
            raise QueueFull(name)
        if HEAD_ONLY not in environ:
            inflate_body()
            return None
        if request.routing_exception:
            return None  # Flask raises this exception itself
        inflate_body(head_only=True)
        if request.blueprint not in MANAGEMENT and (name := (request.view_args or {}).get("model")):
            metrics.requested_model.set(name)
            self._registry.get_ready(name)
        most = self._settings.max_model_bytes if request.endpoint in LONG_BODIES else self._settings.max_request_bytes
        if (request.content_length or 0) > most:
            raise RequestEntityTooLarge()
        environ[MAX_BODY] = most
        return Response(status=CONTINUE)

    def _after(self, response: Response) -> Response:
        add_refusal(response)
        self._headers.add(response)
        if self._tracer:
            self._tracer.answered(response)
        if response.status_code != CONTINUE:
            measure(response.status_code)
        add_request_id(response)
        return response

    def _end(self, error: BaseException | None) -> None:
        comes_again = (HEAD_ONLY in request.environ or isinstance(error, WouldBlock)) and forget_measuring()
        measure(500)  # requests without a response: the worker is about to exit
        if self._tracer:
            self._tracer.end(not comes_again)
        end_request_id()
