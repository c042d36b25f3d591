"""The answers right after a start with ``load_models=noop-v0.1,noop-v1.0``."""

from __future__ import annotations

from bench.parity.check import describe, manage, predict

CORES = ("minWorkers", "maxWorkers", "workers")
"""As many as there are cores, in either server's own way of counting."""

CHECKS = [
    predict("startup.ping", "GET /ping", 200, '"Healthy"'),
    manage("startup.list", "GET /models", 200, "noop_v0.1"),
    describe("startup.describe-1.0", "noop", '"loadedAtStartup": true', masked=CORES),
    describe("startup.describe-0.x", "noop_v0.1", "snapshot", masked=CORES),
    predict("startup.predict-1.0", "POST /predictions/noop", 200, "OK", body=b"test"),
    predict("startup.predict-0.x", "POST /predictions/noop_v0.1", 200, "OK", body=b"test"),
    predict("startup.two-models-no-name", "POST /invocations", 400, "Parameter model_name is required.", body=b"test"),
    predict("startup.two-models-empty-name", "POST /invocations?model_name=", 404, "Model not found: ", body=b"test"),
    manage("startup.unregister", "DELETE /models/noop_v0.1", 200, 'Model \\"noop_v0.1\\" unregistered'),
    predict("startup.one-model-no-name", "POST /invocations", 200, "OK", body=b"test"),
    predict("startup.gone", "POST /predictions/noop_v0.1", 404, "Model not found: noop_v0.1", body=b"test"),
    predict("startup.ping-again", "GET /ping", 200, '"Healthy"'),
]
WITHOUT_STORE = [
    predict("startup.ping-without-store", "GET /ping", 200, '"Healthy"'),
    manage("startup.list-without-store", "GET /models", 200, '"models": []'),
    manage("startup.register-without-store", "POST /models?url=noop-v1.0", 404, "Model not found in model store"),
]
"""With a ``model_store`` that is not there, and ``load_models=ALL``."""
