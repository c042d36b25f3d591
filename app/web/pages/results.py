"""Stored results: each at an address that can be shared, and all results of a browser at ``/recent``."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden, Gone

from app.serving.explain import box_of, face_tensor
from app.serving.feedback import Correction
from app.serving.pipeline import open_picture
from app.serving.rendering import jpeg, png, tensor_image
from app.serving.uploads import StoredUpload, tag_of
from app.web.csrf import check_same_origin, visitor
from app.web.pages.explain import heat_response, requested_face
from app.web.pages.labels import spoken_time
from app.web.pages.view_models import PREVIEW_SIDE, corrections, from_store, is_mine, requested_part
from app.web.pages.workbench import answers_of, compared_models, result_response
from app.web.request import services, wants_html

bp = Blueprint("results", __name__)

SMALL_SIDE = 160
MINUTES_CACHED = 10
MAX_RECENT = 60
"""Maximum number of images on the page of recent results."""


@bp.get("/result/<identity>")
def show(identity: str) -> Response:
    """Show a result while its image is stored; ``?why`` shows its explanation, ``?with=`` other models' answers."""
    upload = _find(identity)
    if not requested_part() and not wants_html():
        return jsonify(upload.record["answer"])
    others = answers_of(compared_models(upload.record["answer"]["model"]), upload.path.read_bytes())
    why = {key: value for key in ("class", "face") if (value := request.args.get(key))}
    return result_response(from_store(upload, others), why if "why" in request.args else None)


@bp.get("/result/<identity>/picture")
def picture(identity: str) -> Response:
    """Return the image as a JPEG without the file's metadata; ``?small`` returns a smaller one."""
    side = SMALL_SIDE if "small" in request.args else PREVIEW_SIDE
    with open_picture(_find(identity).path.read_bytes(), services().settings.picture_limits) as opened:
        data = jpeg(opened.image, side)
    return picture_response(data, "image/jpeg")


@bp.get("/result/<identity>/seen")
def seen(identity: str) -> Response:
    """Return the network's view of the image, or of the face ``?face=``: the tensor's own values as a PNG."""
    upload, face = _find(identity), requested_face()
    with services().registry.acquire_builtin(upload.record["answer"]["model"]) as model:
        box = box_of(upload.record["answer"], face)
        with open_picture(upload.path.read_bytes(), services().settings.picture_limits) as opened:
            tensor = face_tensor(model, opened.image, box)
    return picture_response(png(tensor_image(tensor, model.preprocess)), "image/png")


@bp.get("/result/<identity>/why")
def why(identity: str) -> Response:
    """Return the explanation of the result, as :func:`app.web.pages.explain.explain_picture` does."""
    upload = _find(identity)
    return heat_response(upload.record["answer"]["model"], upload.path.read_bytes(), upload.record["answer"])


@bp.post("/result/<identity>/delete")
def delete(identity: str) -> Response:
    """Delete an image with its results, its copies and its corrections."""
    check_same_origin()
    upload = own_upload(identity)
    source = upload.record.get("source", upload.id)
    for copy in services().uploads.of(visitor()):
        if source in (copy.id, copy.record.get("source")):
            _forget(copy)
    return make_response("", 204) if requested_part() else redirect_to("results.recent")


@bp.get("/recent")
def recent() -> Response:
    """Show all stored uploads of this browser."""
    mine = services().uploads.of(visitor(), MAX_RECENT) if visitor() else []
    if not wants_html():
        return jsonify([{"id": upload.id, "answer": upload.record["answer"]} for upload in mine])
    results = [from_store(upload) for upload in mine]
    page = render_template(
        "recent.html", results=results, settings=services().settings, corrected=len(own_corrections())
    )
    return make_response(page)


@bp.post("/recent/delete")
def delete_all() -> Response:
    """Delete all uploads of this browser, and its corrections, whose uploads may have expired."""
    check_same_origin()
    for upload in services().uploads.of(visitor()) if visitor() else []:
        _forget(upload)
    for correction in own_corrections():
        corrections().forget(correction.model, correction.path.name)
    return redirect_to("results.recent")


def own_corrections() -> list[Correction]:
    """Return the corrections of this browser, the latest first."""
    return corrections().of(f"*-{tag_of(visitor())}.*") if visitor() else []


def _forget(upload: StoredUpload) -> None:
    corrections().forget(upload.record["answer"]["model"], f"{upload.id}-*")
    services().uploads.delete(upload)


def _find(identity: str) -> StoredUpload:
    upload = services().uploads.find(identity)
    if upload is None:
        seconds = services().uploads.seconds
        kept = f"Results are kept for {spoken_time(seconds)}." if seconds else "This server keeps no results."
        raise Gone(f"{kept} Send the image again.")
    return upload


def own_upload(identity: str) -> StoredUpload:
    """Return an upload of this browser.

    :raises Gone: if it is not stored.
    :raises Forbidden: if another browser has sent it.
    """
    upload = _find(identity)
    if not is_mine(upload):
        raise Forbidden("Only the browser that sent this picture can change or delete it.")
    return upload


def picture_response(data: bytes, kind: str) -> Response:
    """Return an image that only this browser may cache."""
    return make_response(data, {"Content-Type": kind, "Cache-Control": f"private, max-age={60 * MINUTES_CACHED}"})


def redirect_to(endpoint: str, identity: str | None = None) -> Response:
    """Return the redirect after a form was sent."""
    return make_response(redirect(url_for(endpoint, identity=identity), 303))
