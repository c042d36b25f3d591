"""The page: a form at ``/``, its answer at ``/file/``."""

from __future__ import annotations

import base64
import io
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from PIL import Image

from app.serving.documents import answer_document
from app.serving.model import Model
from app.serving.pipeline import conclude, open_picture, prepare
from app.web.accept import wants_html
from app.web.clients import client_gone
from app.web.context import dimple
from app.web.pictures import read_top, read_upload

bp = Blueprint("pages", __name__)

PREVIEW_SIDE = 640
SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


@bp.get("/")
def form() -> str:
    """The form: a picture and a choice of model."""
    here = dimple()
    models = [entry.model for entry in here.registry.entries() if isinstance(entry.model, Model)]
    return render_template("form.html", models=models, default=here.settings.default_model)


@bp.get("/file/")
def show_form() -> Response:
    """Somebody typed the form's address."""
    return make_response(redirect(url_for("pages.form"), 303))


@bp.post("/file/", strict_slashes=False)
def classify() -> Response:
    """Classify the picture of the form, and keep it for as long as the settings say."""
    here = dimple()
    upload = read_upload()
    name = request.form.get("model") or request.args.get("model") or here.settings.default_model
    top = read_top()
    with here.registry.computed(name) as model:
        with open_picture(upload.data, here.settings.max_pixels) as picture:
            prepared = prepare(model, picture)
            shown = _shown(picture.image) if wants_html() else {}
        found = conclude(model, prepared, top, client_gone())
    here.uploads.keep(upload.data, _suffix(upload.data))
    if not wants_html():
        return jsonify(answer_document(found))
    return make_response(render_template("result.html", answer=found, name=upload.name, **shown))


def _suffix(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return SUFFIX.get(image.format or "", ".img")


def _shown(image: Image.Image) -> dict[str, Any]:
    """What the page shows of the picture: its size, and a small JPEG inside a ``data:`` address.

    Browsers show no TIFF, and what is not kept has no address.
    """
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    preview = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"preview": preview, "width": image.width, "height": image.height}
