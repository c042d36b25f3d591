"""Results that are kept: each at an address that can be passed on, and all that a browser has sent at ``/recent``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden, Gone

from app.errors import BadParameter
from app.serving.explain import box_of, look
from app.serving.feedback import Corrections
from app.serving.pipeline import open_picture
from app.serving.rendering import as_picture, jpeg, png
from app.serving.uploads import Kept
from app.web.csrf import check_same_origin, visitor
from app.web.pages.explain import heat_response, wanted_face
from app.web.pages.view_models import PREVIEW_SIDE, is_mine, kept, plain_label, wants_part
from app.web.request import dimple, wants_html

bp = Blueprint("results", __name__)

SMALL_SIDE = 160
MINUTES_CACHED = 10
MOST_SHOWN = 60
"""Pictures on the page of the recent ones."""
LONGEST_LABEL = 200


@bp.get("/result/<identity>")
def show(identity: str) -> Response:
    """A result, for as long as its picture is kept. ``?why`` shows what it rests on, too."""
    one = _find(identity)
    if not wants_html():
        return jsonify(one.record["answer"])
    why = url_for("results.why", identity=identity, **_asked_of_why()) if "why" in request.args else ""
    return make_response(render_template("result.html", result=kept(one), why=why))


@bp.get("/result/<identity>/picture")
def picture(identity: str) -> Response:
    """The picture as a JPEG, without the metadata of the file; ``?small`` a smaller one."""
    side = SMALL_SIDE if "small" in request.args else PREVIEW_SIDE
    with open_picture(_find(identity).path.read_bytes(), dimple().settings.picture_limits) as opened:
        data = jpeg(opened.image, side)
    return _picture(data, "image/jpeg")


@bp.get("/result/<identity>/seen")
def seen(identity: str) -> Response:
    """What the network saw of the picture, or of the face ``?face=``: the tensor's own values as a PNG."""
    one, face = _find(identity), wanted_face()
    with dimple().registry.acquire_builtin(one.record["answer"]["model"]) as model:
        box = box_of(one.record["answer"], face)
        with open_picture(one.path.read_bytes(), dimple().settings.picture_limits) as opened:
            tensor = look(model, opened.image, box)
    return _picture(png(as_picture(tensor, model.preprocess)), "image/png")


@bp.get("/result/<identity>/why")
def why(identity: str) -> Response:
    """What the answer rests on, as :func:`app.web.pages.explain.explain_picture` tells it."""
    one = _find(identity)
    return heat_response(one.record["answer"]["model"], one.path.read_bytes(), one.record["answer"])


@bp.post("/result/<identity>/delete")
def delete(identity: str) -> Response:
    """Forget a picture, its answer and what was corrected."""
    check_same_origin()
    _forget(_mine(identity))
    return _to("results.recent")


@bp.post("/result/<identity>/correct")
def correct(identity: str) -> Response:
    """Keep the picture, or the face ``face`` of it, as one of the class ``label``, to train on."""
    check_same_origin()
    one = _mine(identity)
    face = wanted_face()
    label = _label(one.record["answer"]["model"], request.form.get("label", "").strip())
    box = box_of(one.record["answer"], face)
    data, suffix = one.path.read_bytes(), one.path.suffix
    if box:
        with open_picture(data, dimple().settings.picture_limits) as opened:
            around = (box.x, box.y, box.x + box.width, box.y + box.height)
            data, suffix = png(opened.image.crop(around)), ".png"
    name = f"{one.id}-{face}{suffix}"
    corrections().keep(one.record["answer"]["model"], label, name, data)
    corrected = {**one.record.get("corrected", {}), str(face): label}
    dimple().uploads.note(one, {**one.record, "corrected": corrected})
    if wants_part():
        return make_response(render_template("_result.html", result=kept(_find(identity))))
    return _to("results.show", identity=identity)


@bp.get("/recent")
def recent() -> Response:
    """Everything that this browser has sent, while it is kept."""
    mine = dimple().uploads.of(visitor(), MOST_SHOWN) if visitor() else []
    if not wants_html():
        return jsonify([{"id": one.id, "answer": one.record["answer"]} for one in mine])
    results = [kept(one) for one in mine]
    return make_response(render_template("recent.html", results=results, settings=dimple().settings))


@bp.post("/recent/delete")
def delete_all() -> Response:
    """Forget everything that this browser has sent."""
    check_same_origin()
    for one in dimple().uploads.of(visitor()) if visitor() else []:
        _forget(one)
    return _to("results.recent")


def corrections() -> Corrections:
    """Where corrected pictures go. They may take as much room as the uploads."""
    settings = dimple().settings
    return Corrections(settings.instance_dir / "corrections", settings.uploads_max_bytes)


def _forget(one: Kept) -> None:
    corrections().forget(one.record["answer"]["model"], f"{one.id}-*")
    dimple().uploads.delete(one)


def _find(identity: str) -> Kept:
    one = dimple().uploads.find(identity)
    if one is None:
        raise Gone("This result is not kept, or not any more. Send the picture again.")
    return one


def _mine(identity: str) -> Kept:
    one = _find(identity)
    if not is_mine(one):
        raise Forbidden("Only the browser that sent this picture can change or delete it.")
    return one


def _label(name: str, text: str) -> str:
    """Return the label that is meant: one of the model's own, or the name that the page shows for one.

    :raises BadParameter: if there is none, or two have that name.
    """
    with dimple().registry.acquire_builtin(name) as model:
        labels: Sequence[str] = model.labels
    if text in labels:
        return text
    text = text[:LONGEST_LABEL]  # to compare a long one with every label takes long
    meant = [label for label in labels if plain_label(label).lower() == text.lower()]
    if len(meant) == 1:
        return meant[0]
    shown = [plain_label(label) for label in labels]
    like = meant or difflib.get_close_matches(text, shown, 3, 0.5) or shown[:3]
    raise BadParameter("label", text, f"one of the model's own labels, such as {'; '.join(like)}")


def _asked_of_why() -> dict[str, Any]:
    given: Mapping[str, str] = request.args
    return {key: given[key] for key in ("class", "face") if given.get(key)}


def _picture(data: bytes, kind: str) -> Response:
    response = make_response(data)
    response.content_type = kind
    response.headers["Cache-Control"] = f"private, max-age={60 * MINUTES_CACHED}"
    return response


def _to(endpoint: str, identity: str | None = None) -> Response:
    return make_response(redirect(url_for(endpoint, identity=identity), 303))
