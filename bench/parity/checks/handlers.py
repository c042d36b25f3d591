"""The answers and failures of a handler: the model ``actor`` does what the header ``do`` requests."""

from __future__ import annotations

from bench.parity.answer import Answer, of_document
from bench.parity.check import Check, describe, form, manage, predict, probe
from bench.parity.peer import Peer


def act(deed: str, status: int = 200, says: str = "", body: object = b"x", **more: object) -> Check:
    """Return a check of a request that makes ``actor`` do something."""
    name = deed.replace("_", "-").replace(" ", "-")
    return predict(f"handlers.{name}", "POST /predictions/actor", status, says, body, {"do": deed}, **more)  # type: ignore[arg-type]


FORM, FORM_TYPE = form({"data": ("a.txt", "text/plain", b"a"), "more": "b"})
FAILED = "Prediction failed"
BAD_OUTPUT = "Invalid model predict output"

ANSWERS = [
    act("text", says="plain"),
    act("empty text"),
    act("text beyond ascii", says="Grüße"),
    act("bytes"),
    act("bytearray", says="of bytes"),
    act("dict", says="1e-07"),
    act("list"),
    act("number", says="5"),
    act("float", says="0.1"),
    act("none"),
    act("true", says="true"),
    act("nan"),
    act("large"),
    act("json_type", says="null"),
    act("own_cache", says="OK"),
    act("status_507", 507, "Invalid response"),
    act("all_status_404", 404, "false"),
    act("status_204", 204),
    act("metrics", says="counted"),
    act("tell_context", says="MMS"),
    predict("handlers.context-of-form", "POST /predictions/actor", 200, "text/plain", FORM,
            {**FORM_TYPE, "do": "tell_context", "X-Mixed-Case": "As Sent", "x-request-id": "mine"}),
]  # fmt: skip
FAILURES = [
    act("memory", 507, "Out of resources"),
    act("prediction_exception", 599, "Some Prediction Error"),
    act("prediction_exception_default", 500, "Some Prediction Error"),
    act("exception", 503, FAILED),
    act("not a list", 503, BAD_OUTPUT),
    act("tuple", 503, BAD_OUTPUT),
    act("nothing", 503, BAD_OUTPUT),
    act("empty list", 503),
    act("too many", 503),
    act("not serialisable", 503, "Unsupported model output data type."),
    act("kill", 500, "Worker died."),
    predict("handlers.after-kill", "POST /predictions/actor", 200, "plain", b"x"),
    act("leave", 500, "Worker died."),
    predict("handlers.after-leave", "POST /predictions/actor", 200, "plain", b"x"),
]
LOADING = [
    manage("load.init-error-none", "POST /models?url=init-error&model_name=init_error&synchronous=false", 200,
           "registered"),
    manage("load.init-error", "PUT /models/init_error?synchronous=true&min_worker=1", 500, "Failed to start workers"),
    describe("load.init-error-described", "init_error", '"minWorkers": 1'),
    predict("load.init-error-ping", "GET /ping", 200, masked=("status",)),
    manage("load.init-error-unregister", "DELETE /models/init_error", 200, "unregistered"),
    manage("load.init-error-at-once", "POST /models?url=init-error&initial_workers=1&synchronous=true", 500,
           "Failed to start workers"),
    manage("load.init-error-rolled-back", "GET /models/init_error", 404, "Model not found"),
    manage("load.silent", "POST /models?url=silent-init-error&initial_workers=1", 200, "Workers scaled"),
    predict("load.silent-answers", "POST /predictions/silent_init_error", 200, "went on", b"x"),
    manage("load.silent-unregister", "DELETE /models/silent_init_error", 200),
    # whether MMS still knows the model after this differs from run to run
    manage("load.memory", "POST /models?url=loading-memory-error&initial_workers=1&synchronous=true", 507,
           "Failed to start workers", drops="loading_memory_error"),
    manage("load.two-classes", "POST /models?url=two-classes&initial_workers=1", 500, "Failed to start workers"),
    manage("load.no-module", "POST /models?url=noop-v1.0&model_name=nomodule&handler=nix:handle&initial_workers=1", 500,
           "Failed to start workers"),
    manage("load.no-function", "POST /models?url=noop-v1.0&model_name=nofunction&handler=service:nix&initial_workers=1",
           200, "Workers scaled"),
    predict("load.no-function-takes-class", "POST /predictions/nofunction", 200, "OK", b"x"),
    manage("load.no-function-unregister", "DELETE /models/nofunction", 200),
    manage("load.no-manifest", "POST /models?url=noop-no-manifest&model_name=bare&handler=service:handle"
           "&initial_workers=1", 200, "Workers scaled"),
    describe("load.no-manifest-described", "bare", '"modelName": "bare"'),
    predict("load.no-manifest-answers", "POST /predictions/bare", 200, "OK", b"x"),
    manage("load.no-manifest-unregister", "DELETE /models/bare", 200),
    manage("load.respheader", "POST /models?url=respheader&initial_workers=1", 200, "Workers scaled"),
    predict("load.respheader-answers", "POST /predictions/respheader", 200, "OK", b"x"),
    manage("load.respheader-unregister", "DELETE /models/respheader", 200),
]  # fmt: skip


def processes(peer: Peer) -> Answer:
    """Return the number of processes that compute a model that was registered with one worker."""
    answers = [peer.ask("POST", "/predictions/actor", b"x", {"do": "process"}) for _ in range(40)]
    return of_document({"processes": len({answer.body for answer in answers})})


def count_descriptions(peer: Peer) -> Answer:
    """Return the number of different descriptions of a model that fails: every process should give the same."""
    peer.ask("POST", "/models?url=init-error", management=True)
    peer.ask("PUT", "/models/init_error?min_worker=1&synchronous=true", management=True)
    responses = [peer.ask("GET", "/models/init_error", management=True) for _ in range(30)]
    documents = [answer.document() for answer in responses]
    peer.ask("DELETE", "/models/init_error", management=True)
    kinds = {
        (document.get("modelVersion"), document.get("status"), len(document.get("workers", ())))
        for document in documents
    }
    return of_document({"descriptions": len(kinds)})


CHECKS = [
    probe("handlers.told-by-all", "describe a model that fails, 30 times: how many descriptions", count_descriptions),
    manage("handlers.register", "POST /models?url=actor&initial_workers=1", 200, "Workers scaled"),
    probe("handlers.processes", "40 requests to one worker: how many processes answer", processes),
    *ANSWERS,
    *FAILURES,
    manage("handlers.unregister", "DELETE /models/actor", 200, "unregistered"),
]
