"""``/explain/``: explanations of a prediction by image regions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, request

from app.errors import BadParameter
from app.serving.explain import box_of, crop, explain, face_tensor, seen_region, with_margin
from app.serving.pipeline import open_picture, postprocess, prepare
from app.serving.rendering import heat_map, png, small
from app.serving.serializers import answer_document
from app.types import Box
from app.web.pages.view_models import PREVIEW_SIDE
from app.web.request import accepted_type, client_disconnected, read_upload, services

bp = Blueprint("explain", __name__)


@bp.route("/explain/<model>", methods=["POST", "PUT"], strict_slashes=False)
def explain_picture(model: str) -> Response:
    """Explain a prediction as a heat map over the image (PNG), or as numbers (JSON), by the Accept header.

    The explained class is the most probable one, or ``?class=``. If the model looks at faces, the face is the largest
    one, or ``?face=``.
    """
    return heat_response(model, read_upload().data)


def heat_response(name: str, data: bytes, answer: Mapping[str, Any] | None = None) -> Response:
    """Return the explanation of a prediction for an image.

    :param answer: document of an earlier response to the image, which saves finding its faces again.
    """
    started = time.perf_counter()
    face, label = requested_face(), request.args.get("class") or None
    with services().registry.acquire_builtin(name) as model:
        with open_picture(data, services().settings.picture_limits) as picture:
            if answer is None:
                answer = answer_document(postprocess(model, prepare(model, picture), None, client_disconnected()))
            box = box_of(answer, face)
            tensor = face_tensor(model, picture.image, box)
            whole = Box(0, 0, *picture.image.size)
            frame = with_margin(box, whole) if box else whole
            preview = small(crop(picture.image, frame), PREVIEW_SIDE)
        looked_at = seen_region(model.preprocess, model.input.shape, box or whole)
        explanation = explain(model, tensor, looked_at, label, client_disconnected())
    if accepted_type(["image/png", "application/json"]) == "application/json":
        return jsonify(
            {
                "model": model.name,
                "version": model.version,
                "class": explanation.label,
                "probability": explanation.probability,
                "region": asdict(explanation.region),
                "drops": [[round(float(drop), 6) for drop in row] for row in explanation.drops],
                "occlusions": explanation.drops.size,
                "timing_ms": {"total": round((time.perf_counter() - started) * 1000, 3)},
            }
        )
    headers = {"Content-Type": "image/png", "Cache-Control": "private, max-age=600", "Vary": "Accept"}
    return make_response(png(heat_map(preview, frame, explanation)), headers)


def requested_face() -> int:
    """Return the number of the requested face, from 1.

    :raises BadParameter: if the value is not a number.
    """
    text = request.values.get("face", "1")
    if not text.isdecimal() or len(text) > 3:
        raise BadParameter("face", text, "a whole number of at least 1")
    return int(text)
