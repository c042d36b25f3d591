"""Middleware: what happens before and after every request.

Only the address and the scheme are taken over. The port is the socket's own in any case: by it management is told from
prediction, and a client must not choose it.
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
    """Let the application see the client's address instead of that of the last trusted proxy.

    :raises SettingError: where the setting is no number, nor a list of networks.
    """
    value = settings.trusted_proxies.strip()
    if value.isdecimal() and int(value) <= 16:
        if int(value):
            app.wsgi_app = ProxyFix(app.wsgi_app, x_for=int(value), x_proto=int(value))  # type: ignore[method-assign]
    elif value:
        app.wsgi_app = _TrustedNetworks(app.wsgi_app, value)  # type: ignore[method-assign]


class _TrustedNetworks:
    """Walks X-Forwarded-For from its end, where the nearest proxy has written, to the first that is not trusted."""

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
"""The Open Inference Protocol has packed bodies by its own rules, and unpacks them within the same bounds."""


def inflate_body(head_only: bool = False) -> None:
    """Unpack the present body: packed, it would be taken for a broken picture; unpacked without a bound, it could fill
    the memory.

    :param head_only: whether it has not arrived, and is only to be refused if it would be.
    :raises UnsupportedContentEncoding: if it is packed in a way that is not taken.
    :raises RequestEntityTooLarge: if it is too long, unpacked.
    :raises BadParameter: if it is not packed as its headers say.
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
    """:raises RequestEntityTooLarge: where there is more than ``most``. :raises BadParameter: where it is no gzip."""
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
"""Of pictures that somebody has sent: were one taken for a page, it could do nothing."""
PERMISSIONS = "camera=(self), microphone=(), geolocation=(), payment=(), usb=()"
"""What pages may ask of a browser: /live and /gate use the camera."""
PREFLIGHT_SECONDS = "600"
"""For how long a browser need not ask again whether it may ask."""

Pairs = list[tuple[str, str]]


class SecurityHeaders:
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
    """Return a browser asks, before it lets another site's page send a request, whether it may; the question carries no
    token, so it is answered before one is asked for."""
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
    headers = (
        ("Access-Control-Allow-Origin", settings.cors_allowed_origin),
        ("Access-Control-Allow-Methods", settings.cors_allowed_methods),
        ("Access-Control-Allow-Headers", settings.cors_allowed_headers),
    )
    return [(name, value) for name, value in headers if value]


def _transport(settings: Settings) -> Pairs:
    """Browsers take HSTS for the whole host, whatever the port: where one port speaks plain HTTP it must not be sent.
    In an answer over plain HTTP they disregard it (RFC 6797, section 8.1)."""
    if settings.certificate_file and settings.https == "both" and settings.hsts_seconds:
        return [("Strict-Transport-Security", f"max-age={settings.hsts_seconds}")]
    return []


CONTINUE = 100
LONG_BODIES = ("manage.register_model",)
"""Endpoints that take archives."""


class Middleware:
    """The hooks of an application."""

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
        self._registry.refresh()  # before anything looks for a model
        # first: a browser that asks whether it may ask has no token yet
        answer = (answer_preflight() if self._headers.cors else None) or refuse_at_port(self._ports.scope())
        return answer or self._admit()

    def _admit(self) -> Response | None:
        """Refuse what may not be asked, or cannot be answered, as far as the head tells. Nothing of the body is read
        unless it is packed.

        :returns: for a request whose body has not come, that it may.
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
            return None  # as Flask is about to find
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
        measure(500)  # what had no response: its worker is told to go
        if self._tracer:
            self._tracer.end(not comes_again)
        end_request_id()
