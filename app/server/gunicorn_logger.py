"""gunicorn's logger, extended to write access lines as JSON or in MMS's style, and to count responses."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger

from app.server.logging import FIELDS, host_metric, install, style_name
from app.settings import read_settings
from app.telemetry.request_id import ENVIRON_KEY

OWN_START = ("Starting gunicorn", "Listening at", "Using worker")
UNFIT = re.compile(r'[\x00-\x1f\x7f"\\]')


class Logger(GunicornLogger):  # type: ignore[misc]
    """A logger that takes its files and style from the settings."""

    def setup(self, cfg: Any) -> None:
        """Set up gunicorn's loggers, then replace their handlers by ours."""
        super().setup(cfg)
        self._settings = read_settings()
        self._style = style_name(self._settings)
        self._tells_requests = self.access_log_enabled
        install(self._settings)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log a message; gunicorn's messages about its start have the level debug, because the server does not answer
        yet."""
        (super().debug if msg.startswith(OWN_START) else super().info)(msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log an answered request."""
        status = int(str(resp.status or 500).split(None, 1)[0])  # no status if the application failed
        if self._settings.server_metrics_log:
            host_metric(f"Requests{status // 100}XX", "Count", 1, "null")
        if self._style == "gunicorn":
            super().access(resp, req, environ, request_time)
        elif self._tells_requests and self._style == "mms":
            self.access_log.info(access_line(environ, status, request_time))
        elif self._tells_requests:
            fields = access_fields(environ, status, request_time)
            self.access_log.info("%s %s %d", fields["method"], fields["path"], status, extra={FIELDS: fields})


def access_fields(environ: dict[str, Any], status: int, request_time: timedelta) -> dict[str, Any]:
    """Return the fields of a request's JSON line: those of the application (id, model, route), and the general ones."""
    return {
        **environ.get(ENVIRON_KEY, {}),
        "method": environ["REQUEST_METHOD"],
        "path": environ["RAW_URI"],
        "status": status,
        "milliseconds": round(request_time.total_seconds() * 1000, 3),
        "client": environ.get("REMOTE_ADDR") or "unix",
    }


def access_line(environ: dict[str, Any], status: int, request_time: timedelta) -> str:
    """Return an access line of client, request, status and milliseconds.

    Example: ``/127.0.0.1:64003 "POST /predictions/resnet-18 HTTP/1.1" 200 118``.
    """
    request = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    request = UNFIT.sub(lambda found: f"\\x{ord(found[0]):02x}", request)
    peer = f"{environ.get('REMOTE_ADDR') or 'unix'}:{environ.get('REMOTE_PORT', 0)}"
    return f'/{peer} "{request}" {status} {round(request_time.total_seconds() * 1000)}'
