"""JSON Schemas of what Dimple sends, for its OpenAPI 3.1 document. What is a dataclass in the code is read off it."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from app.types import Box, Preprocess
from app.web.errors import ErrorBody

Json = dict[str, Any]

INFERRED = ("input", "pixels", "output")
"""Parts of a signature that are inferred if nobody states them."""

KINDS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def of_type(hint: Any) -> Json:
    """The schema of a type: text, number, boolean, ``Literal``, or ``tuple[…, ...]``."""
    if hint in KINDS:
        return {"type": KINDS[hint]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return array(of_type(get_args(hint)[0]))
    raise TypeError(f"no schema is known for {hint}")


def of_dataclass(kind: Any) -> Json:
    """The schema of a dataclass as ``dataclasses.asdict`` writes it."""
    hints = get_type_hints(kind)
    return exact({field.name: of_type(hints[field.name]) for field in fields(kind)})


def open_object(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    """The schema of an object that may grow."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def exact(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    """The schema of an object that holds this and nothing else."""
    return open_object(properties, optional) | {"additionalProperties": False}


def array(items: Json) -> Json:
    """The schema of a list."""
    return {"type": "array", "items": items}


def named(name: str) -> Json:
    """A reference to one of :data:`SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT, NUMBER, WHOLE, FLAG = of_type(str), of_type(float), of_type(int), of_type(bool)
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
STATUS = exact({"status": TEXT})

SCHEMAS: Json = {
    "Problem": of_dataclass(ErrorBody),
    "Prediction": exact({"class": TEXT, "probability": PROBABILITY}),
    "Predictions": array(named("Prediction")) | {"description": "The most probable class first."},
    "Face": exact({"box": of_dataclass(Box), "predictions": named("Predictions")}),
    "Answer": exact(
        {
            "model": TEXT,
            "version": TEXT,
            "predictions": named("Predictions"),
            "faces": {
                "anyOf": [array(named("Face")), {"type": "null"}],
                "description": "The faces that were found and classified one by one; null where none are looked for.",
            },
            "timing_ms": {
                "type": "object",
                "additionalProperties": NUMBER,
                "description": "Milliseconds of each step.",
            },
            "note": TEXT,
        },
        optional=("note",),
    ),
    "Model": open_object(
        {
            "model": TEXT,
            "state": {"enum": ["ready", "failed"]},
            "reason": TEXT | {"description": "Why it could not be loaded."},
            "version": TEXT,
            "engine": TEXT
            | {"description": "What computes: openvino, mxnet, keras, or handler for the model's own code."},
            "precision": TEXT | {"description": "fp32, or int8 of a quantized model."},
            "parity": {
                "anyOf": [
                    exact({"max_abs_difference": NUMBER, "samples": WHOLE, "reference": TEXT, "date": TEXT}),
                    {"type": "null"},
                ],
                "description": "How far its probabilities are from the reference's; null where it is the reference.",
            },
            "agreement": {
                "anyOf": [
                    exact({"top1": PROBABILITY, "samples": WHOLE, "calibrated": WHOLE, "date": TEXT}),
                    {"type": "null"},
                ],
                "description": "How often an int8 network calls pictures as the one that it was made from; else null.",
            },
            "input": {
                "allOf": [
                    open_object({"name": TEXT, "shape": array(WHOLE)}),
                    of_dataclass(Preprocess) | {"additionalProperties": True},
                ],
                "description": "The network's tensor (0 is any size), and how a picture becomes it.",
            },
            "labels": array(TEXT),
            "inferred": open_object(dict.fromkeys(INFERRED, TEXT), INFERRED)
            | {"description": "Why the signature says what nobody stated: of the input, the pixels and the output."},
            "warnings": array(TEXT) | {"description": "Signs in its answers that something is set wrong."},
            "predict": TEXT | {"description": "Where a model with code of its own is asked."},
        },
        optional=(
            *("reason", "version", "engine", "precision", "parity", "agreement", "input", "labels", "inferred"),
            *("warnings", "predict"),
        ),
    ),
    "Readiness": exact(
        {
            "status": {"enum": ["ready", "not ready"]},
            "models": array(TEXT),
            "failed": {"type": "object", "additionalProperties": TEXT},
            "cluster": TEXT | {"description": "Why the cluster that computes does not answer."},
        },
        optional=("cluster",),
    ),
    "Explanation": exact(
        {
            "model": TEXT,
            "version": TEXT,
            "class": TEXT,
            "probability": PROBABILITY,
            "region": of_dataclass(Box),
            "drops": array(array({"type": "number", "minimum": -1, "maximum": 1})),
            "occlusions": WHOLE,
            "timing_ms": exact({"total": NUMBER}),
        }
    ),
    "Ping": exact({"status": {"enum": ["Healthy", "Partial Healthy", "Unhealthy"]}}),
    "Done": STATUS,
    "ModelPage": exact(
        {"nextPageToken": TEXT, "models": array(exact({"modelName": TEXT, "modelUrl": TEXT}))},
        optional=("nextPageToken",),
    ),
    "Worker": open_object(
        {
            "id": TEXT,
            "startTime": TEXT,
            "status": {"enum": ["LOADING", "READY", "UNLOADING", "FAILED"]},
            "gpu": FLAG,
            "memoryUsage": WHOLE | {"description": "Bytes; 0 where it is not known."},
        }
    ),
    "RegisteredModel": open_object(
        {
            "modelName": TEXT,
            "modelVersion": TEXT,
            "modelUrl": TEXT,
            "engine": TEXT,
            "runtime": {"enum": ["python", "python2", "python3"]},
            "minWorkers": WHOLE,
            "maxWorkers": WHOLE,
            "batchSize": WHOLE,
            "maxBatchDelay": WHOLE | {"description": "Milliseconds."},
            "loadedAtStartup": FLAG,
            "workers": array(named("Worker")),
        },
        optional=("modelVersion", "engine"),
    ),
    "OpenApi": open_object({"openapi": TEXT, "info": {"type": "object"}, "paths": {"type": "object"}}),
}
