"""The protocol's addresses: health, what the models are, and inference."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response

from app.errors import ModelNotFound
from app.serving.custom_model import CustomModel, HandlerAnswer
from app.serving.model import Model
from app.web.context import dimple
from app.web.errors import oip_error, oip_error_response
from app.web.oip import handlers, pictures
from app.web.oip.answers import answer
from app.web.oip.asked import read_asked
from app.web.oip.body import read_body
from app.web.oip.documents import index_document, model_document, not_ready, server_document

bp = Blueprint("oip", __name__)
bp.register_error_handler(Exception, oip_error_response)


@bp.get("/v2", strict_slashes=False)
def server() -> Response:
    """The server: its name, version, and the protocol's extensions that it has."""
    return jsonify(server_document())


@bp.get("/v2/health/live")
def live() -> Response:
    """The process answers."""
    return jsonify({"live": True})


@bp.get("/v2/health/ready")
def ready() -> Response:
    """Whether at least one model answers; 503 while none does. That of one model is at its own address."""
    answers = any(not not_ready(entry) for entry in dimple().registry.entries())
    return make_response(jsonify({"live": True, "ready": answers}), 200 if answers else 503)


@bp.get("/v2/models/<model>", strict_slashes=False)
@bp.get("/v2/models/<model>/versions/<version>", strict_slashes=False)
def describe(model: str, version: str = "") -> Response:
    """One model: its inputs and outputs. It takes one of the inputs at a time: its tensor, or encoded pictures."""
    loaded = dimple().registry.get_ready(model)
    _check_version(loaded, version)
    return jsonify(model_document(loaded))


@bp.get("/v2/models/<model>/ready")
@bp.get("/v2/models/<model>/versions/<version>/ready")
def model_ready(model: str, version: str = "") -> Response:
    """Whether a model answers; 503 with the reason while it does not."""
    entry = dimple().registry.entry(model)
    if entry.model:
        _check_version(entry.model, version)
    reason = not_ready(entry)
    document = {"name": entry.name, "ready": not reason, **({"reason": reason} if reason else {})}
    return make_response(jsonify(document), 503 if reason else 200)


@bp.post("/v2/models/<model>/infer")
@bp.post("/v2/models/<model>/versions/<version>/infer")
def infer(model: str, version: str = "") -> Response:
    """Ask a model: pictures (BYTES) for their labels and scores, or the network's own tensor for its own output.

    Tensors come and go in JSON, or in bytes behind it; then ``Inference-Header-Content-Length`` is the length of the
    JSON. Where it is 0, the whole body is one picture.
    """
    here = dimple()
    with here.registry.acquire(model) as loaded:
        _check_version(loaded, version)
        if isinstance(loaded, CustomModel):
            asked = read_asked(read_body(), handlers.BODY, here.settings.max_form_parts, handlers.OUTPUTS)
            said = handlers.infer(loaded, asked, here.settings)
            return _refused(said) if isinstance(said, HandlerAnswer) else answer(model, loaded.version, asked, said)
        asked = read_asked(read_body(), pictures.PICTURE, pictures.INPUTS, pictures.OUTPUTS)
        return answer(model, loaded.version, asked, pictures.infer(loaded, asked, here.settings))


@bp.post("/v2/repository/index")
def index() -> Response:
    """Every model, whether it answers or not; with ``{"ready": true}``, only those that do."""
    document = read_body(optional=True).document or {}
    only_ready = document.get("ready") is True
    found = [index_document(entry) for entry in dimple().registry.entries()]
    return jsonify([one for one in found if not only_ready or one["state"] == "READY"])


def _check_version(model: Model | CustomModel, version: str) -> None:
    """:raises ModelNotFound: where another version is asked for than the one that is served."""
    if version and version != model.version:
        raise ModelNotFound(f"{model.name}, version {version}", [f"{model.name}, version {model.version}"])


def _refused(said: HandlerAnswer) -> Response:
    """What a model's own code says where it does not answer: an error, or its own status with its own words."""
    message = said.error[1] if said.error else said.body.decode(errors="replace")
    return oip_error(said.status if said.status >= 400 else 500, message or said.phrase or "The model said nothing.")
