"""Routes of the protocol: health, metadata and inference."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, make_response

from app.errors import ModelNotFound
from app.serving.custom_model import CustomModel, HandlerAnswer
from app.serving.loader import Entry
from app.serving.model import Model
from app.serving.tensors import row_shape
from app.settings import VERSION
from app.web.errors import oip_error, oip_error_response
from app.web.oip.codec import answer
from app.web.oip.infer import (
    BODY,
    CUSTOM_OUTPUTS,
    INPUTS,
    LABELS,
    OUTPUTS,
    PICTURE,
    SCORES,
    infer_custom,
    infer_network,
    raw_name,
)
from app.web.oip.requests import BYTES, FLOAT, parse_request, read_body
from app.web.request import services

Json = dict[str, Any]

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository(index)")
READY = "READY"
NO_WORKER = "it was given no worker"


def model_document(model: Model | CustomModel) -> Json:
    """Return the metadata of a model that answers."""
    body = [_tensor(BODY, BYTES, [-1])]
    inputs, outputs = (body, body) if isinstance(model, CustomModel) else _network_tensors(model)
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"dimple_{model.kind}",
        "inputs": inputs,
        "outputs": outputs,
    }


def not_ready(entry: Entry) -> str:
    """Return the reason why a model does not answer; empty if it answers."""
    if entry.model is None:
        return entry.failure
    if entry.registration.min_workers < 1:
        return NO_WORKER
    return entry.model.not_ready() if isinstance(entry.model, CustomModel) else ""


def index_document(entry: Entry) -> Json:
    """Return a model's entry in Triton's index."""
    reason = not_ready(entry)
    return {
        "name": entry.name,
        "version": entry.model.version if entry.model else "",
        "state": "UNAVAILABLE" if reason else READY,
        "reason": reason,
    }


def _network_tensors(model: Model) -> tuple[list[Json], list[Json]]:
    classes = len(model.labels)
    top = min(model.postprocess.top or classes, classes)
    columns = model.output.shape[1]
    inputs = [_tensor(model.input.name, FLOAT, [-1, *row_shape(model)]), _tensor(PICTURE, BYTES, [-1])]
    outputs = [
        _tensor(raw_name(model), FLOAT, [-1, columns]),
        _tensor(LABELS, BYTES, [-1, top]),
        _tensor(SCORES, FLOAT, [-1, top]),
    ]
    return inputs, outputs


def _tensor(name: str, datatype: str, shape: list[int]) -> Json:
    return {"name": name, "datatype": datatype, "shape": shape}


bp = Blueprint("oip", __name__)
bp.register_error_handler(Exception, oip_error_response)


@bp.get("/v2", strict_slashes=False)
def server() -> Response:
    """Return the server's name, version and supported extensions of the protocol."""
    return jsonify({"name": "dimple", "version": VERSION, "extensions": list(EXTENSIONS)})


@bp.get("/v2/health/live")
def live() -> Response:
    """Return 200 while the process answers."""
    return jsonify({"live": True})


@bp.get("/v2/health/ready")
def ready() -> Response:
    """Return whether at least one model answers, with 503 if none does. Each model's readiness has its own address."""
    answers = any(not not_ready(entry) for entry in services().registry.entries())
    return make_response(jsonify({"live": True, "ready": answers}), 200 if answers else 503)


@bp.get("/v2/models/<model>", strict_slashes=False)
@bp.get("/v2/models/<model>/versions/<version>", strict_slashes=False)
def describe(model: str, version: str = "") -> Response:
    """Describe the inputs and outputs of a model. A request has one of the inputs: the tensor, or encoded images."""
    loaded = services().registry.get_ready(model)
    _check_version(loaded, version)
    return jsonify(model_document(loaded))


@bp.get("/v2/models/<model>/ready")
@bp.get("/v2/models/<model>/versions/<version>/ready")
def model_ready(model: str, version: str = "") -> Response:
    """Return whether a model answers, with 503 and the reason if it does not."""
    entry = services().registry.entry(model)
    if entry.model:
        _check_version(entry.model, version)
    reason = not_ready(entry)
    document = {"name": entry.name, "ready": not reason, **({"reason": reason} if reason else {})}
    return make_response(jsonify(document), 503 if reason else 200)


@bp.post("/v2/models/<model>/infer")
@bp.post("/v2/models/<model>/versions/<version>/infer")
def infer(model: str, version: str = "") -> Response:
    """Run a model: images (BYTES) give labels and scores, the network's own tensor gives its own output.

    Tensors are JSON, or binary data after the JSON; in the latter case ``Inference-Header-Content-Length`` is the
    length of the JSON. If it is 0, the whole body is one image.
    """
    here = services()
    with here.registry.acquire(model) as loaded:
        _check_version(loaded, version)
        if isinstance(loaded, CustomModel):
            inference = parse_request(read_body(), BODY, here.settings.max_form_parts, CUSTOM_OUTPUTS)
            outputs = infer_custom(loaded, inference, here.settings)
            if isinstance(outputs, HandlerAnswer):
                return _refusal(outputs)
        else:
            inference = parse_request(read_body(), PICTURE, INPUTS, OUTPUTS)
            outputs = infer_network(loaded, inference, here.settings)
        return answer(model, loaded.version, inference, outputs)


@bp.post("/v2/repository/index")
def index() -> Response:
    """List every model, whether it answers or not; with ``{"ready": true}``, only those that answer."""
    document = read_body(optional=True).document or {}
    only_ready = document.get("ready") is True
    documents = [index_document(entry) for entry in services().registry.entries()]
    return jsonify([document for document in documents if not only_ready or document["state"] == "READY"])


def _check_version(model: Model | CustomModel, version: str) -> None:
    """Check the requested version of a model.

    :raises ModelNotFound: if the model is served in another version.
    """
    if version and version != model.version:
        raise ModelNotFound(f"{model.name}, version {version}", [f"{model.name}, version {model.version}"])


def _refusal(response: HandlerAnswer) -> Response:
    """Return the response of a model's own code that failed: an error, or its own status and body."""
    message = response.error[1] if response.error else response.body.decode(errors="replace")
    return oip_error(
        response.status if response.status >= 400 else 500, message or response.phrase or "The model gave no reason."
    )
