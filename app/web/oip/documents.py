"""What the protocol tells about the server and its models."""

from __future__ import annotations

from typing import Any

from app.serving.custom_model import CustomModel
from app.serving.loader import Entry
from app.serving.model import Model
from app.serving.tensors import row_shape
from app.settings import VERSION
from app.web.oip.datatypes import BYTES, FLOAT
from app.web.oip.handlers import BODY
from app.web.oip.pictures import LABELS, PICTURE, SCORES, raw_name

Json = dict[str, Any]

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository(index)")
READY = "READY"
NO_WORKER = "it was given no worker"


def server_document() -> Json:
    """The server."""
    return {"name": "dimple", "version": VERSION, "extensions": list(EXTENSIONS)}


def model_document(model: Model | CustomModel) -> Json:
    """Describe a model that answers."""
    inputs, outputs = _handled() if isinstance(model, CustomModel) else _computed(model)
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"dimple_{model.kind}",
        "inputs": inputs,
        "outputs": outputs,
    }


def not_ready(entry: Entry) -> str:
    """Why a model does not answer; empty where it does."""
    if entry.model is None:
        return entry.failure
    if entry.registration.min_workers < 1:
        return NO_WORKER
    return entry.model.not_ready() if isinstance(entry.model, CustomModel) else ""


def index_document(entry: Entry) -> Json:
    """A model in Triton's index."""
    reason = not_ready(entry)
    return {
        "name": entry.name,
        "version": entry.model.version if entry.model else "",
        "state": "UNAVAILABLE" if reason else READY,
        "reason": reason,
    }


def _handled() -> tuple[list[Json], list[Json]]:
    return [_tensor(BODY, BYTES, [-1])], [_tensor(BODY, BYTES, [-1])]


def _computed(model: Model) -> tuple[list[Json], list[Json]]:
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
