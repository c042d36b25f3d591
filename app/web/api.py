"""``/predict/``: image classification with JSON responses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from app.errors import BadInput
from app.serving.model import Model
from app.serving.pipeline import classify
from app.serving.serializers import answer_document, entry_document
from app.web.errors import error_body
from app.web.request import Upload, check_filled, client_disconnected, read_top, read_uploads, services

bp = Blueprint("predict", __name__)


@bp.get("/predict/", strict_slashes=False)
def list_models() -> Response:
    """Return the labels, input, engine and state of every model."""
    return jsonify({"models": [entry_document(entry) for entry in services().registry.entries()]})


@bp.get("/predict/<model>", strict_slashes=False)
def describe_model(model: str) -> Response:
    """Return the labels, input, engine and state of one model."""
    return jsonify(entry_document(services().registry.entry(model)))


@bp.route("/predict/<model>", methods=["POST", "PUT"], strict_slashes=False)
def predict(model: str) -> Response:
    """Classify one image, or several.

    The response to several images is a list in their order; a bad image has its error in its place.

    PUT is equivalent to POST, because ``curl -T picture.jpg`` sends PUT.
    """
    with services().registry.acquire_builtin(model) as loaded:
        top = read_top()
        uploads = read_uploads(services().settings.max_files)
        if len(uploads) == 1:
            return jsonify(_classify(loaded, uploads[0], top))
        return jsonify([_classify_or_explain(loaded, upload, top) for upload in uploads])


def _classify(model: Model, upload: Upload, top: int | None) -> dict[str, Any]:
    check_filled(upload)
    return answer_document(classify(model, upload.data, services().settings.picture_limits, top, client_disconnected()))


def _classify_or_explain(model: Model, upload: Upload, top: int | None) -> dict[str, Any]:
    try:
        return _classify(model, upload, top)
    except BadInput as error:
        return {"error": asdict(error_body(error))}
