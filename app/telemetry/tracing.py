"""Configuration of tracing, and a check for its packages, which are not part of the server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from app.errors import SettingError
from app.settings import PREFIX, Settings

PACKAGE = "opentelemetry.exporter.otlp.proto.http"
INSTALL = "pip install -r requirements-otel.txt"
VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PATH = "/v1/traces"
"""Path at which OTLP/HTTP receives traces, below an endpoint for all signals (opentelemetry.io, OTLP specification)."""


def trace_endpoint(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL to which traces are sent; empty if tracing is off.

    The setting takes precedence over the variables of OpenTelemetry's specification.

    :raises SettingError: if tracing is on and its packages are not installed.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return ""
    name, value = next(
        (
            (name, value)
            for name, value in (
                (f"{PREFIX}TRACE_ENDPOINT", settings.trace_endpoint),
                *((name, environ.get(name, "")) for name in VARIABLES),
            )
            if value
        ),
        ("", ""),
    )
    if not value:
        return ""
    if not value.startswith(("http://", "https://")):
        raise SettingError(name, value, "a URL that begins with http:// or https://")
    if not _installed():
        raise SettingError(name, value, f"empty, or the packages that send traces installed ({INSTALL})")
    return value if name == VARIABLES[0] else value.rstrip("/") + PATH


def _installed() -> bool:
    try:
        return find_spec(PACKAGE) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
