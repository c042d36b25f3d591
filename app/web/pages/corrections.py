"""Corrected answers: saving one, and this browser's corrections as a list and as a zip of training images."""

from __future__ import annotations

import difflib
import tempfile
import zipfile
from collections.abc import Sequence

from flask import Blueprint, Response, jsonify, make_response, render_template, request, send_file
from werkzeug.exceptions import Gone

from app.errors import BadParameter
from app.serving.explain import box_of
from app.serving.feedback import Correction
from app.serving.pipeline import open_picture
from app.serving.rendering import jpeg, png
from app.web.csrf import check_same_origin
from app.web.pages.explain import requested_face
from app.web.pages.labels import display_name, distinct_names, plain_label, synonyms
from app.web.pages.results import SMALL_SIDE, own_corrections, own_upload, picture_response, redirect_to
from app.web.pages.view_models import corrections, from_store, requested_part
from app.web.request import services

bp = Blueprint("corrections", __name__)

LONGEST_LABEL = 200
SPOOLED_BYTES = 2**24
"""Size in bytes up to which a zip is made in memory."""


@bp.get("/labels/<model>")
def labels(model: str) -> Response:
    """Return the classes of a model with the names that the page shows, for its lists."""
    with services().registry.acquire_builtin(model) as loaded:
        known: Sequence[str] = loaded.labels
    names = zip(known, distinct_names(known), strict=True)
    document = [{"label": label, "name": name, "synonyms": synonyms(label)} for label, name in names]
    return make_response(jsonify(document), {"Cache-Control": "private, max-age=600"})


@bp.post("/result/<identity>/correct")
def correct(identity: str) -> Response:
    """Store the image, or its face ``face``, as an example of the class ``label`` for training."""
    check_same_origin()
    upload = own_upload(identity)
    model, face = upload.record["answer"]["model"], requested_face()
    label = _label(model, request.form.get("label", "").strip())
    box = box_of(upload.record["answer"], face)
    data, suffix = upload.path.read_bytes(), upload.path.suffix
    if box:
        with open_picture(data, services().settings.picture_limits) as opened:
            around = (box.x, box.y, box.x + box.width, box.y + box.height)
            data, suffix = png(opened.image.crop(around)), ".png"
    corrections().keep(model, label, f"{upload.id}-{face}-{upload.tag}{suffix}", data)
    corrected = {**upload.record.get("corrected", {}), str(face): label}
    services().uploads.note(upload, {**upload.record, "corrected": corrected})
    if requested_part():
        view = from_store(own_upload(identity))
        return make_response(render_template("_result.html", result=view, why=None))
    return redirect_to("results.show", identity=identity)


@bp.get("/corrections")
def listing() -> Response:
    """Show the corrections of this browser."""
    mine = own_corrections()
    counts = {model: corrections().count(model) for model in dict.fromkeys(item.model for item in mine)}
    return make_response(render_template("corrections.html", corrections=mine, counts=counts))


@bp.get("/corrections.zip")
def archive() -> Response:
    """Return the corrected images of this browser, a folder for each model and class, as ``dimple models train``
    reads them."""
    file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115 (closed with the response)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for item in own_corrections():
            packed.write(item.path, f"{item.model}/{item.label}/{item.path.name}")
    file.seek(0)
    return send_file(file, "application/zip", as_attachment=True, download_name="corrections.zip", max_age=0)


@bp.get("/corrections/<name>/picture")
def picture(name: str) -> Response:
    """Return a small image of a correction of this browser."""
    with open_picture(_own(name).path.read_bytes(), services().settings.picture_limits) as opened:
        return picture_response(jpeg(opened.image, SMALL_SIDE), "image/jpeg")


@bp.post("/corrections/<name>/delete")
def delete(name: str) -> Response:
    """Delete a correction of this browser."""
    check_same_origin()
    corrections().forget(_own(name).model, name)
    return redirect_to("corrections.listing")


def _own(name: str) -> Correction:
    found = [item for item in own_corrections() if item.path.name == name]
    if not found:
        raise Gone("This correction no longer exists.")
    return found[0]


def _label(name: str, text: str) -> str:
    """Return the label that a text means: one of the model's labels, or the display name of one.

    :raises BadParameter: if no label or several labels match.
    """
    with services().registry.acquire_builtin(name) as model:
        known: Sequence[str] = model.labels
    if text in known:
        return text
    text = text[:LONGEST_LABEL].lower()  # limits the time of the comparison with every label
    names = distinct_names(known)
    for spelling in (names, [plain_label(label) for label in known], [display_name(label) for label in known]):
        matches = [label for label, other in zip(known, spelling, strict=True) if other.lower() == text]
        if len(matches) == 1:
            return matches[0]
    shared = [other for other in names if other.lower().startswith(f"{text} (")]
    spelled = {name.lower(): name for name in names}
    close = [spelled[name] for name in difflib.get_close_matches(text, spelled, 3, 0.5)]
    like = shared or close or names[:3]
    raise BadParameter("label", text, f"one of the model's own labels, such as {'; '.join(like)}")
