"""What each view takes and gives, in OpenAPI's own notation: by endpoint, then by method.

Paths, names of parameters in them and the sentences come from the code; see :mod:`app.web.apidocs.openapi`. A view that
is missing here fails a test, and so does an answer that is not as it stands here.
"""

from __future__ import annotations

from app.web.apidocs import oip
from app.web.apidocs.schemas import FLAG, TEXT, WHOLE, Json, array, exact, named, open_object

BINARY: Json = {}
"""OpenAPI 3.1 describes bytes by their media type alone; ``format`` below is for forms that know 3.0's way only."""
PART: Json = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
HTML: Json = {"text/html": {"schema": TEXT}}
PROBLEM: Json = {"application/json": {"schema": named("Problem")}}
PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "application/octet-stream")


def json(description: str, schema: Json) -> Json:
    """A response of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problems(*codes: int) -> Json:
    """The responses that are errors, by status."""
    return {str(code): {"description": PROBLEMS[code], "content": PROBLEM} for code in codes}


def query(name: str, schema: Json, description: str, required: bool = False) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


PROBLEMS = {
    400: "Something is missing or makes no sense; the message says what, and what to do.",
    404: "There is no such model.",
    405: "The method is not allowed here.",
    408: "The last requests were not answered in time; the model stays.",
    409: "A model of that name is registered.",
    413: "Too many bytes, pixels or files.",
    415: "The bytes are no picture that can be read.",
    500: "The model could not do it.",
    503: "The model cannot answer now.",
    507: "The memory is used up.",
}
INPUT_PROBLEMS = (400, 404, 413, 415, 503)

TOP = query("top", WHOLE | {"minimum": 1}, "How many classes to report; the model's own number where it is missing.")
PICTURE_FORM = {
    "multipart/form-data": {
        "schema": open_object({"file": {"anyOf": [PART, array(PART)]}}) | {"description": "One picture, or several."}
    }
}
METRICS: Json = {
    "description": "One number a line, in Prometheus's text format or in OpenMetrics.",
    "content": {kind: {"schema": TEXT} for kind in ("text/plain", "application/openmetrics-text")},
}
PICTURE_BODY = {"required": True, "content": {**{kind: {"schema": BINARY} for kind in PICTURES}, **PICTURE_FORM}}

CLASSIFY: Json = {
    "parameters": [TOP],
    "requestBody": PICTURE_BODY,
    "responses": {
        "200": json(
            "For one picture its answer; for several a list, with the problem in the place of a bad one.",
            {
                "anyOf": [
                    named("Answer"),
                    array({"anyOf": [named("Answer"), exact({"error": named("Problem")})]}),
                ]
            },
        ),
        **problems(*INPUT_PROBLEMS),
    },
}

MODEL_ANSWER: Json = {
    "description": "What the model answers. For a classifier without code of its own: the most probable classes.",
    "content": {"application/json": {"examples": {"classes": {"value": [{"probability": 0.97, "class": "cat"}]}}}},
}
MODEL_INPUT: Json = {
    "required": True,
    "description": "What the model takes: for a classifier a picture, as the body or as a part of a form.",
    "content": {
        **{kind: {"schema": BINARY} for kind in PICTURES},
        "application/json": {"schema": {}},
        "multipart/form-data": {"schema": open_object({"data": PART}, optional=("data",))},
    },
}
PREDICT: Json = {
    "requestBody": MODEL_INPUT,
    "responses": {"200": MODEL_ANSWER, **problems(*INPUT_PROBLEMS, 500, 507)},
}
INSTANCES: Json = {
    "anyOf": [
        open_object({"instances": array({}) | {"minItems": 1}}),
        array({}) | {"minItems": 1},
    ],
    "description": 'Rows of the network\'s input, or pictures as {"b64": …}; one answer for each.',
}
INVOKE: Json = {
    "requestBody": MODEL_INPUT
    | {
        "description": "As for predictions. Where no code of the model's own takes it, a tensor is taken, too.",
        "content": MODEL_INPUT["content"]
        | {
            "application/json": {"schema": INSTANCES, "examples": {"rows": {"value": {"instances": [[[[0.5]]]]}}}},
            "application/x-npy": {"schema": BINARY},
            "text/csv": {"schema": TEXT, "examples": {"rows": {"value": "0.1,0.2,0.3\n0.4,0.5,0.6\n"}}},
        },
    },
    "responses": PREDICT["responses"]
    | {
        "200": MODEL_ANSWER
        | {"content": MODEL_ANSWER["content"] | {"application/x-npy": {"schema": BINARY}, "text/csv": {"schema": TEXT}}}
    },
}
ABOUT_MODEL: Json = {
    "summary": "Tell about the model, in Multi Model Server's form.",
    "responses": {"200": json("A document about the model.", named("OpenApi")), **problems(404)},
}
NAME = query("model_name", TEXT, "The model; needed where more than one could be meant.")

DONE = json("What was done.", named("Done"))
ACCEPTED = {"202": json("It will be done.", named("Done"))}
REGISTRATION: Json = {
    "url": TEXT | {"description": "A folder or an archive in the models folder, or an http(s) address."},
    "model_url": TEXT | {"description": "Another name for url."},
    "model_name": TEXT | {"description": "The name to register it under, in place of its manifest's."},
    "handler": TEXT | {"description": "The handler, module:function, in place of its manifest's."},
    "runtime": {"enum": ["python", "python2", "python3"]},
    "batch_size": WHOLE | {"minimum": 1, "default": 1},
    "max_batch_delay": WHOLE | {"minimum": 0, "default": 100, "description": "Milliseconds."},
    "initial_workers": WHOLE | {"maximum": 1024, "description": "Without a worker the model does not answer."},
    "synchronous": FLAG | {"default": True, "description": "Whether the answer waits until the workers run."},
    "response_timeout": WHOLE | {"description": "Minutes in the query, seconds in JSON, as Multi Model Server has it."},
    "replace": FLAG | {"default": False, "description": "Whether it takes the place of a model of its name."},
}
WORKERS = WHOLE | {"minimum": 0, "maximum": 1024}

PAGE: Json = {"responses": {"200": {"description": "The page.", "content": HTML}}}

EXPLAIN: Json = {
    "parameters": [
        query("class", TEXT, "The label of the class to be explained; the most probable one where it is missing."),
        query("face", WHOLE | {"minimum": 1}, "The number of the face, the largest first."),
    ],
    "requestBody": PICTURE_BODY,
    "responses": {
        "200": {
            "description": "The picture with a heat map, or how much the probability falls where a part is covered.",
            "content": {"image/png": {"schema": BINARY}, "application/json": {"schema": named("Explanation")}},
        },
        **problems(400, 404, 413, 415, 503),
    },
}

OPERATIONS: dict[str, dict[str, Json]] = {
    "pages.form": {"get": PAGE},
    "pages.show_form": {"get": {"responses": {"303": {"description": "To the page."}}}},
    "pages.show_index": {"get": {"responses": {"301": {"description": "To the page."}}}},
    "pages.classify": {
        "post": {
            "parameters": [TOP],
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": open_object({"file": PART, "model": TEXT}, optional=("model",)),
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The answer: a page for browsers, JSON for programs.",
                    "content": {"application/json": {"schema": named("Answer")}, **HTML},
                },
                **{
                    code: response | {"content": {**PROBLEM, **HTML}}
                    for code, response in problems(*INPUT_PROBLEMS).items()
                },
            },
        }
    },
    "predict.list_models": {
        "get": {"responses": {"200": json("The models.", exact({"models": array(named("Model"))}))}}
    },
    "predict.describe_model": {"get": {"responses": {"200": json("The model.", named("Model")), **problems(404)}}},
    "explain.explain_picture": {"post": EXPLAIN, "put": EXPLAIN},
    "predict.predict": {"post": CLASSIFY, "put": CLASSIFY},
    "ops.alive": {"get": {"responses": {"200": json("It is alive.", exact({"status": {"const": "alive"}}))}}},
    "ops.ready": {
        "get": {
            "responses": {
                "200": json("At least one model answers.", named("Readiness")),
                "503": json("No model answers.", named("Readiness")),
            }
        }
    },
    "metrics.metrics": {"get": {"responses": {"200": METRICS}}},
    "mms.ping": {
        "get": {
            "responses": {
                "200": json("How the models are.", named("Ping")),
                "503": json("None answers; told so only where the settings want it, as SageMaker does.", named("Ping")),
            }
        }
    },
    "mms.predictions": {"post": PREDICT, "put": PREDICT, "options": ABOUT_MODEL},
    "mms.no_model": {"post": {"responses": problems(404)}},
    "mms.invoke_model": {"post": INVOKE, "options": ABOUT_MODEL},
    "mms.predict": {"post": PREDICT, "options": ABOUT_MODEL},
    "mms.invoke": {
        "post": INVOKE | {"parameters": [NAME]},
        "options": {
            **ABOUT_MODEL,
            "parameters": [NAME],
            "responses": {**ABOUT_MODEL["responses"], **problems(400)},
        },
    },
    "management.list_models": {
        "get": {
            "parameters": [
                query("limit", WHOLE | {"default": 100}, "Most models of one page: 0 to 100."),
                query("next_page_token", TEXT, "The nextPageToken of the page before."),
            ],
            "responses": {"200": json("A page of the models.", named("ModelPage"))},
        }
    },
    "management.register_model": {
        "post": {
            "parameters": [query(name, schema, schema.get("description", "")) for name, schema in REGISTRATION.items()],
            "requestBody": {
                "required": False,
                "description": "The same parameters as JSON; then those of the query do not count.",
                "content": {
                    "application/json": {"schema": open_object(REGISTRATION, optional=tuple(REGISTRATION))},
                },
            },
            "responses": {"200": DONE, **ACCEPTED, **problems(400, 404, 409, 413, 500, 507)},
        }
    },
    "management.describe_model": {
        "get": {"responses": {"200": json("The model and its workers.", named("RegisteredModel")), **problems(404)}}
    },
    "management.scale_model": {
        "put": {
            "parameters": [
                query("min_worker", WORKERS | {"default": 1}, "Workers that it is to have at least."),
                query("max_worker", WORKERS, "Workers that it is to have at most; min_worker where it is missing."),
                query("synchronous", FLAG | {"default": False}, "Whether the answer waits until they run."),
            ],
            "responses": {"200": DONE, **ACCEPTED, **problems(400, 404, 500, 507)},
        }
    },
    "management.unregister_model": {"delete": {"responses": {"200": DONE, **problems(404, 408)}}},
    "apidocs.root": {
        "options": {"responses": {"200": json("Multi Model Server's document.", named("OpenApi"))}},
    },
    "apidocs.api_description": {
        "get": {"responses": {"200": json("Multi Model Server's document.", named("OpenApi"))}, "deprecated": True}
    },
    "apidocs.openapi": {"get": {"responses": {"200": json("This document.", named("OpenApi"))}}},
    "apidocs.docs": {"get": PAGE},
    **oip.OPERATIONS,
}
