"""Multi Model Server's document about its inference API.

It has MMS's structure (paths, names, types, status codes) in our words. One thing is otherwise, because MMS's document
is wrong about its own server: ``/models/{model_name}/invoke`` has its ``model_name`` in the path, not in the query.
"""

from __future__ import annotations

from app.web.apidocs.mms_parts import (
    ANY_BODY,
    API_DESCRIPTION,
    BINARY,
    FAILED,
    NAME_OF_MODEL,
    NO_WORKER,
    NOT_FOUND,
    Json,
    in_path,
    in_query,
    of_object,
    operation,
    refusal,
    reply,
    typed,
)

MODEL = in_path("model_name", NAME_OF_MODEL)
FORM = {
    "required": ["data"],
    "properties": {
        "model_name": typed("string", description=NAME_OF_MODEL),
        "data": BINARY | {"description": "What the model is asked: for a classifier, a picture."},
    },
}


def _predicting(answer: Json, more: Json | None = None) -> Json:
    return {"200": answer, **(more or {}), **NOT_FOUND, **FAILED, **NO_WORKER}


def _invoking(parameter: Json) -> Json:
    return operation(
        "invocations",
        _predicting(
            reply("What the model answers, in its own form", FORM, "*/*"),
            {"400": refusal("The model's name is missing")},
        ),
        (parameter,),
        "One address for all models, as SageMaker asks them.",
        {"content": {"multipart/form-data": {"schema": FORM}}, "required": True},
    )


PATHS: Json = {
    "/": {"options": API_DESCRIPTION},
    "/{model_name}/predict": {
        "post": operation(
            "predict",
            _predicting(reply("What the model answers, in its own form", BINARY, "*/*")),
            (MODEL,),
            "How the first versions of the server were asked.",
            {"description": "What the model takes, in its own form.", **ANY_BODY},
            deprecated=True,
        )
    },
    "/ping": {
        "get": operation(
            "ping",
            {
                "200": reply(
                    "How the server is",
                    of_object(
                        {"status": typed("string", description="Healthy, Partial Healthy or Unhealthy.")}, ("status",)
                    ),
                ),
                **FAILED,
            },
        )
    },
    "/predictions/{model_name}": {
        "post": operation(
            "predictions",
            _predicting(reply("What the model answers, in its own form", BINARY, "*/*")),
            (MODEL,),
            "Asks a model. OPTIONS at the same address tells about it.",
            {"description": "What the model takes, in its own form: for a classifier, a picture.", **ANY_BODY},
        ),
        "options": operation(
            "predictionsApi",
            {"200": reply("A document about the model", typed("object"))},
            (MODEL,),
            "Tells about one model.",
        ),
    },
    "/api-description": {"get": API_DESCRIPTION | {"deprecated": True}},
    "/invocations": {"post": _invoking(in_query("model_name", typed("string"), NAME_OF_MODEL))},
    "/models/{model_name}/invoke": {"post": _invoking(MODEL)},
}
