"""Multi Model Server's document about its management API.

It has MMS's structure (paths, names, types, status codes) in our words. Where MMS's document and MMS's code differ, its
clients have learned the code, so the document says what the code does:

- the model's address is read from ``url``; ``model_url``, the document's name for it, is read where ``url`` is missing;
- ``runtime`` is written in lower case;
- ``synchronous`` is true by default when a model is registered;
- ``response_timeout`` is in minutes in a query, and in seconds in a JSON body;
- defaults are numbers and booleans, not texts that look like them.

``model_name_pattern``, ``number_gpu``, ``timeout`` and ``synchronous`` of DELETE are taken and do nothing, as in MMS.
"""

from __future__ import annotations

from app.web.apidocs.mms_parts import (
    API_DESCRIPTION,
    FAILED,
    NAME_OF_MODEL,
    NOT_FOUND,
    Json,
    in_path,
    in_query,
    of_object,
    operation,
    refusal,
    reply,
    status_reply,
    typed,
)

UNUSED = "Taken for compatibility; it changes nothing."
MODEL = in_path("model_name", NAME_OF_MODEL)
WAIT_FOR_IT = "Whether the answer waits until it is done."
TIMEOUT = in_query("timeout", typed("integer", default=-1), UNUSED)
BAD = {"400": refusal("A parameter is missing or makes no sense")}
ACCEPTED = {"202": status_reply("It will be done")}
CHANGED = {**ACCEPTED, "210": status_reply("Not all workers run yet")}

LISTED = of_object(
    {
        "nextPageToken": typed(
            "string", description="Where the next page begins: its next_page_token. Missing on the last page."
        ),
        "models": typed(
            "array",
            items=of_object(
                {
                    "modelName": typed("string", description=NAME_OF_MODEL),
                    "modelUrl": typed("string", description="The address from which it was registered."),
                },
                ("modelName", "modelUrl"),
            ),
            description="The models of this page, by name.",
        ),
    },
    ("models",),
)
WORKER = of_object(
    {
        "id": typed("string", description="The worker's name."),
        "startTime": typed("string", description="Since when it runs, in UTC."),
        "gpu": typed("boolean", description="Whether it computes on a GPU."),
        "status": typed("string", description="What it is doing.", enum=["READY", "LOADING", "UNLOADING"]),
    },
    ("id", "startTime", "status"),
)
METRICS = of_object(
    {
        "rejectedRequests": typed("integer", description="Requests of the last ten minutes that were turned away."),
        "waitingQueueSize": typed("integer", description="Requests that wait now."),
        "requests": typed("integer", description="Requests of the last ten minutes that were answered."),
    },
    ("rejectedRequests", "waitingQueueSize", "requests"),
)
DESCRIBED = of_object(
    {
        "modelName": typed("string", description=NAME_OF_MODEL),
        "modelVersion": typed("string", description="The version that its manifest gives."),
        "modelUrl": typed("string", description="The address from which it was registered."),
        "minWorkers": typed("integer", description="Workers that it has at least."),
        "maxWorkers": typed("integer", description="Workers that it has at most."),
        "batchSize": typed("integer", description="Requests that are computed together, at most."),
        "maxBatchDelay": typed("integer", description="Milliseconds that the first of them waits for the others."),
        "status": typed("string", description="How the model is."),
        "workers": typed("array", items=WORKER, description="Its workers."),
        "metrics": METRICS,
    },
    ("modelName", "modelVersion", "modelUrl", "minWorkers", "maxWorkers", "status", "workers", "metrics"),
)

LIST = operation(
    "listModels",
    {"200": reply("A page of the models", LISTED), **FAILED},
    (
        in_query("limit", typed("integer", default=100), "Most models of one page, 0 to 100."),
        in_query("next_page_token", typed("string"), "The nextPageToken of the page before."),
        in_query("model_name_pattern", typed("string"), UNUSED),
    ),
    "Lists the registered models by name, in pages.",
)
REGISTER = operation(
    "registerModel",
    {
        "200": status_reply("The model is registered"),
        **CHANGED,
        **BAD,
        "404": refusal("There is no model at that address"),
        "409": refusal("A model of that name is registered"),
        **FAILED,
    },
    (
        in_query("url", typed("string"), "An archive or a folder in the model store, or an http(s) address.", True),
        in_query("model_url", typed("string"), "Another name for url."),
        in_query("model_name", typed("string"), "The name to register it under, in place of its manifest's."),
        in_query("handler", typed("string"), "The handler, module:function, in place of its manifest's."),
        in_query(
            "runtime",
            typed("string", enum=["python", "python2", "python3"]),
            "What runs the handler, in place of its manifest's.",
        ),
        in_query("batch_size", typed("integer", default=1), "Requests that may be computed together."),
        in_query("max_batch_delay", typed("integer", default=100), "Milliseconds that a batch waits to be full."),
        in_query("response_timeout", typed("integer", default=2), "Minutes that the model has for an answer."),
        in_query("initial_workers", typed("integer", default=0), "Workers to start; without one it does not answer."),
        in_query("synchronous", typed("boolean", default=True), WAIT_FOR_IT),
        in_query("preload_model", typed("boolean", default=False), UNUSED),
    ),
    "Registers a model. The parameters may come as a JSON body, too; then the query does not count.",
)
DESCRIBE = operation(
    "describeModel",
    {"200": reply("The model", DESCRIBED), **FAILED},
    (MODEL,),
    "Tells how a model is set up, and how its workers are.",
)
SCALE = operation(
    "setAutoScale",
    {"200": status_reply("The workers run"), **CHANGED, **BAD, **NOT_FOUND, **FAILED},
    (
        MODEL,
        in_query("min_worker", typed("integer", default=1), "Workers that it is to have at least."),
        in_query("max_worker", typed("integer", default=1), "Workers that it is to have at most."),
        in_query("number_gpu", typed("integer", default=0), UNUSED),
        in_query("synchronous", typed("boolean", default=False), WAIT_FOR_IT),
        TIMEOUT,
    ),
    "Gives a model more workers, or fewer.",
)
UNREGISTER = operation(
    "unregisterModel",
    {
        "200": status_reply("The model is gone"),
        **ACCEPTED,
        **NOT_FOUND,
        "408": refusal("Its last requests were not answered in time; it stays"),
        **FAILED,
    },
    (MODEL, in_query("synchronous", typed("boolean", default=False), UNUSED), TIMEOUT),
    "Takes a model out of service, after its last answers.",
)

PATHS: Json = {
    "/": {"options": API_DESCRIPTION},
    "/models": {"get": LIST, "post": REGISTER},
    "/models/{model_name}": {"get": DESCRIBE, "put": SCALE, "delete": UNREGISTER},
}
