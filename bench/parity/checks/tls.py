"""Both APIs over https, with a certificate and a key in PEM."""

from __future__ import annotations

from bench.parity.check import describe, manage, predict

CHECKS = [
    predict("tls.document", "OPTIONS /", 200, "/predictions/{model_name}"),
    predict("tls.ping", "GET /ping", 200, "Healthy"),
    manage("tls.register", "POST /models?url=noop-v1.0&initial_workers=1", 200, "Workers scaled"),
    describe("tls.describe", "noop", '"modelName": "noop"', masked=("workers",)),
    predict("tls.predict", "POST /predictions/noop", 200, "OK", b"x"),
    manage("tls.unregister", "DELETE /models/noop", 200, "unregistered"),
]
