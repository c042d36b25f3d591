"""What the Open Inference Protocol takes and gives; the names of the schemas begin with ``Oip``."""

from __future__ import annotations

from app.web.apidocs.schemas import FLAG, TEXT, WHOLE, Json, array, exact, named, open_object
from app.web.oip.datatypes import BYTES, FLOAT, NAMES

SIZES = array(WHOLE | {"minimum": -1})
DATATYPE: Json = {"enum": list(NAMES)}
COUNT: Json = WHOLE | {"minimum": 1}
BYTES_BEHIND = WHOLE | {"minimum": 0, "description": "Bytes of the tensor behind the JSON."}
TENSOR = exact({"name": TEXT, "datatype": DATATYPE, "shape": SIZES})
SENT = open_object(
    {
        "name": TEXT,
        "datatype": DATATYPE,
        "shape": array(WHOLE | {"minimum": 0}) | {"minItems": 1},
        "parameters": open_object({"binary_data_size": BYTES_BEHIND}, optional=("binary_data_size",)),
        "data": array({}) | {"description": "Flat or nested; of an encoded picture, base64."},
    },
    optional=("parameters", "data"),
)
CLASSIFICATION = COUNT | {"description": "So many of the best classes, each as value:index:label."}
WANTED = open_object(
    {
        "name": TEXT,
        "parameters": open_object(
            {"binary_data": FLAG, "classification": CLASSIFICATION}, optional=("binary_data", "classification")
        ),
    },
    optional=("parameters",),
)
OPTIONS = open_object(
    {
        "binary_data_output": FLAG | {"description": "Whether the outputs are sent as bytes."},
        "top": COUNT | {"description": "How many classes to report; the model's own number where it is missing."},
    },
    optional=("binary_data_output", "top"),
)
GIVEN = exact(
    {
        "name": TEXT,
        "datatype": {"enum": [FLOAT, BYTES]},
        "shape": SIZES,
        "parameters": {"type": "object"},
        "data": array({"type": ["number", "string"]}),
    },
    optional=("parameters", "data"),
)
STATE = {"enum": ["READY", "UNAVAILABLE"]}

SCHEMAS: Json = {
    "OipError": exact({"error": TEXT}),
    "OipHealth": exact({"live": FLAG, "ready": FLAG}, optional=("ready",)),
    "OipServer": exact({"name": TEXT, "version": TEXT, "extensions": array(TEXT)}),
    "OipModel": exact(
        {"name": TEXT, "versions": array(TEXT), "platform": TEXT, "inputs": array(TENSOR), "outputs": array(TENSOR)}
    ),
    "OipModelReady": exact({"name": TEXT, "ready": FLAG, "reason": TEXT}, optional=("reason",)),
    "OipIndex": array(exact({"name": TEXT, "version": TEXT, "state": STATE, "reason": TEXT})),
    "OipRequest": open_object(
        {
            "id": TEXT | {"description": "Comes back with the answer."},
            "parameters": OPTIONS,
            "inputs": array(SENT) | {"minItems": 1},
            "outputs": array(WANTED),
        },
        optional=("id", "parameters", "outputs"),
    ),
    "OipAnswer": exact(
        {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": array(GIVEN) | {"minItems": 1}},
        optional=("id",),
    ),
}

WORDS = {
    400: "The request does not fit the protocol or the model; the message says where, and what to do.",
    404: "There is no such model, or not in that version.",
    413: "Too many bytes, pixels or rows.",
    415: "The bytes are no picture that can be read.",
    500: "The model could not do it.",
    503: "The model cannot answer now.",
    507: "The memory is used up.",
}

BLACK_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
PICTURE_EXAMPLE: Json = {
    "id": "42",
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [BLACK_PIXEL]}],
    "outputs": [{"name": "scores", "parameters": {"classification": 1}}],
}
ANSWER_EXAMPLE: Json = {
    "model_name": "dogcat",
    "model_version": "1.0",
    "id": "42",
    "outputs": [{"name": "scores", "datatype": "BYTES", "shape": [1, 1], "data": ["0.9:1:dog"]}],
}
HEADER: Json = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "schema": WHOLE | {"minimum": 0},
    "description": "The length of the JSON where bytes stand behind it; 0 where the whole body is one picture.",
}


def _json(description: str, name: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": named(name)}}}


def _errors(*codes: int) -> Json:
    return {str(code): _json(WORDS[code], "OipError") for code in codes}


INFER: Json = {
    "parameters": [HEADER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": named("OipRequest"), "examples": {"picture": {"value": PICTURE_EXAMPLE}}},
            "application/octet-stream": {"schema": {}},
        },
    },
    "responses": {
        "200": {
            "description": "The outputs; those that are asked for as bytes stand behind the JSON, in its order.",
            "content": {
                "application/json": {"schema": named("OipAnswer"), "examples": {"picture": {"value": ANSWER_EXAMPLE}}},
                "application/octet-stream": {"schema": {}},
            },
        },
        **_errors(400, 404, 413, 415, 500, 503, 507),
    },
}
OPERATIONS: dict[str, dict[str, Json]] = {
    "oip.server": {"get": {"responses": {"200": _json("The server.", "OipServer")}}},
    "oip.live": {"get": {"responses": {"200": _json("Yes.", "OipHealth")}}},
    "oip.ready": {"get": {"responses": {"200": _json("Yes.", "OipHealth"), "503": _json("Not now.", "OipHealth")}}},
    "oip.describe": {"get": {"responses": {"200": _json("The model.", "OipModel"), **_errors(404, 503)}}},
    "oip.model_ready": {
        "get": {
            "responses": {
                "200": _json("It answers.", "OipModelReady"),
                "503": _json("It does not.", "OipModelReady"),
                **_errors(404),
            }
        }
    },
    "oip.infer": {"post": INFER},
    "oip.index": {
        "post": {
            "requestBody": {
                "required": False,
                "content": {"application/json": {"schema": open_object({"ready": FLAG}, optional=("ready",))}},
            },
            "responses": {"200": _json("The models.", "OipIndex"), **_errors(400, 413)},
        }
    },
}
