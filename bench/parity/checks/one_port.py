"""Both APIs at one port, as in SageMaker's containers."""

from __future__ import annotations

from bench.parity.check import predict

CHECKS = [
    predict("one-port.document", "OPTIONS /", 200, "registerModel"),
    predict("one-port.api-description", "GET /api-description", 200, "registerModel"),
    predict("one-port.ping", "GET /ping", 200, "Healthy"),
    predict("one-port.list", "GET /models", 200, "models"),
    predict("one-port.register", "POST /models?url=noop-v1.0&model_name=one&initial_workers=1", 200, "Workers scaled"),
    predict("one-port.predict", "POST /predictions/one", 200, "OK", b"x"),
    predict("one-port.invoke", "POST /models/one/invoke", 200, "OK", b"x"),
    predict("one-port.invocations", "POST /invocations?model_name=one", 200, "OK", b"x"),
    predict("one-port.describe", "GET /models/one", 200, '"modelName": "one"', masked=("workers",)),
    predict("one-port.unknown", "GET /nothing/here", 404, "Requested resource is not found"),
    predict("one-port.unknown-model", "GET /models/nix", 404, "Model not found: nix"),
    predict("one-port.put-list", "PUT /models", 405, "Requested method is not allowed"),
    predict("one-port.unregister", "DELETE /models/one", 200, "unregistered"),
]
