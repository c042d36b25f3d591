"""``/favicon.ico``, which browsers request for responses that are no pages."""

from __future__ import annotations

from flask import Blueprint, Response

from app.settings import ROOT

bp = Blueprint("icon", __name__)

DAY = 24 * 3600


@bp.get("/favicon.ico")
def favicon() -> Response:
    """Return the logo in the format of old browsers."""
    response = Response((ROOT / "static" / "favicon.ico").read_bytes(), content_type="image/x-icon")
    response.cache_control.public = True
    response.cache_control.max_age = DAY
    return response
