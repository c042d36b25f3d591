"""``/favicon.ico``, which browsers request for responses that are no pages."""

from __future__ import annotations

from flask import Blueprint, Response, send_from_directory

from app.settings import ROOT

bp = Blueprint("icon", __name__)

DAY = 24 * 3600


@bp.get("/favicon.ico")
def favicon() -> Response:
    """Return the logo in the format of old browsers."""
    return send_from_directory(ROOT / "static", "favicon.ico", max_age=DAY)
