"""Stored results: each at an address that can be shared, and all results of a browser at ``/recent``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden, Gone

from app.errors import BadParameter
from app.serving.explain import box_of, face_tensor
from app.serving.feedback import FeedbackStore
from app.serving.pipeline import open_picture
from app.serving.rendering import jpeg, png, tensor_image
from app.serving.uploads import StoredUpload
from app.web.csrf import check_same_origin, visitor
from app.web.pages.explain import heat_response, requested_face
from app.web.pages.view_models import PREVIEW_SIDE, from_store, is_mine, plain_label, wants_part
from app.web.request import services, wants_html

bp = Blueprint("results", __name__)

SMALL_SIDE = 160
MINUTES_CACHED = 10
MAX_RECENT = 60
"""Maximum number of images on the page of recent results."""
LONGEST_LABEL = 200


@bp.get("/result/<identity>")
def show(identity: str) -> Response:
    """Show a result while its image is stored, with ``?why`` also its explanation."""
    upload = _find(identity)
    if not wants_html():
        return jsonify(upload.record["answer"])
    why = url_for("results.why", identity=identity, **_explain_parameters()) if "why" in request.args else ""
    return make_response(render_template("result.html", result=from_store(upload), why=why))


@bp.get("/result/<identity>/picture")
def picture(identity: str) -> Response:
    """Return the image as a JPEG without the file's metadata; ``?small`` returns a smaller one."""
    side = SMALL_SIDE if "small" in request.args else PREVIEW_SIDE
    with open_picture(_find(identity).path.read_bytes(), services().settings.picture_limits) as opened:
        data = jpeg(opened.image, side)
    return _picture(data, "image/jpeg")


@bp.get("/result/<identity>/seen")
def seen(identity: str) -> Response:
    """Return the network's view of the image, or of the face ``?face=``: the tensor's own values as a PNG."""
    upload, face = _find(identity), requested_face()
    with services().registry.acquire_builtin(upload.record["answer"]["model"]) as model:
        box = box_of(upload.record["answer"], face)
        with open_picture(upload.path.read_bytes(), services().settings.picture_limits) as opened:
            tensor = face_tensor(model, opened.image, box)
    return _picture(png(tensor_image(tensor, model.preprocess)), "image/png")


@bp.get("/result/<identity>/why")
def why(identity: str) -> Response:
    """Return the explanation of the result, as :func:`app.web.pages.explain.explain_picture` does."""
    upload = _find(identity)
    return heat_response(upload.record["answer"]["model"], upload.path.read_bytes(), upload.record["answer"])


@bp.post("/result/<identity>/delete")
def delete(identity: str) -> Response:
    """Delete an image with its result and its corrections."""
    check_same_origin()
    _forget(_mine(identity))
    return _to("results.recent")


@bp.post("/result/<identity>/correct")
def correct(identity: str) -> Response:
    """Store the image, or its face ``face``, as an example of the class ``label`` for training."""
    check_same_origin()
    upload = _mine(identity)
    face = requested_face()
    label = _label(upload.record["answer"]["model"], request.form.get("label", "").strip())
    box = box_of(upload.record["answer"], face)
    data, suffix = upload.path.read_bytes(), upload.path.suffix
    if box:
        with open_picture(data, services().settings.picture_limits) as opened:
            around = (box.x, box.y, box.x + box.width, box.y + box.height)
            data, suffix = png(opened.image.crop(around)), ".png"
    name = f"{upload.id}-{face}{suffix}"
    corrections().keep(upload.record["answer"]["model"], label, name, data)
    corrected = {**upload.record.get("corrected", {}), str(face): label}
    services().uploads.note(upload, {**upload.record, "corrected": corrected})
    if wants_part():
        return make_response(render_template("_result.html", result=from_store(_find(identity))))
    return _to("results.show", identity=identity)


@bp.get("/recent")
def recent() -> Response:
    """Show all stored uploads of this browser."""
    mine = services().uploads.of(visitor(), MAX_RECENT) if visitor() else []
    if not wants_html():
        return jsonify([{"id": upload.id, "answer": upload.record["answer"]} for upload in mine])
    results = [from_store(upload) for upload in mine]
    return make_response(render_template("recent.html", results=results, settings=services().settings))


@bp.post("/recent/delete")
def delete_all() -> Response:
    """Delete all uploads of this browser."""
    check_same_origin()
    for upload in services().uploads.of(visitor()) if visitor() else []:
        _forget(upload)
    return _to("results.recent")


def corrections() -> FeedbackStore:
    """Return the store of corrected images, which may be as large as the uploads."""
    settings = services().settings
    return FeedbackStore(settings.instance_dir / "corrections", settings.uploads_max_bytes)


def _forget(upload: StoredUpload) -> None:
    corrections().forget(upload.record["answer"]["model"], f"{upload.id}-*")
    services().uploads.delete(upload)


def _find(identity: str) -> StoredUpload:
    upload = services().uploads.find(identity)
    if upload is None:
        raise Gone("This result is not kept, or not any more. Send the picture again.")
    return upload


def _mine(identity: str) -> StoredUpload:
    upload = _find(identity)
    if not is_mine(upload):
        raise Forbidden("Only the browser that sent this picture can change or delete it.")
    return upload


def _label(name: str, text: str) -> str:
    """Return the label that a text means: one of the model's labels, or the display name of one.

    :raises BadParameter: if no label or several labels match.
    """
    with services().registry.acquire_builtin(name) as model:
        labels: Sequence[str] = model.labels
    if text in labels:
        return text
    text = text[:LONGEST_LABEL]  # limits the time of the comparison with every label
    matches = [label for label in labels if plain_label(label).lower() == text.lower()]
    if len(matches) == 1:
        return matches[0]
    names = [plain_label(label) for label in labels]
    like = matches or difflib.get_close_matches(text, names, 3, 0.5) or names[:3]
    raise BadParameter("label", text, f"one of the model's own labels, such as {'; '.join(like)}")


def _explain_parameters() -> dict[str, Any]:
    parameters: Mapping[str, str] = request.args
    return {key: parameters[key] for key in ("class", "face") if parameters.get(key)}


def _picture(data: bytes, kind: str) -> Response:
    response = make_response(data)
    response.content_type = kind
    response.headers["Cache-Control"] = f"private, max-age={60 * MINUTES_CACHED}"
    return response


def _to(endpoint: str, identity: str | None = None) -> Response:
    return make_response(redirect(url_for(endpoint, identity=identity), 303))
