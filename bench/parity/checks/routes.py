"""Every route, at both ports: existing and missing ones, with all methods. Needs the model ``noop``."""

from __future__ import annotations

from bench.parity.check import JSON, form, manage, predict

TEST = b"test"
NOT_FOUND = "Requested resource is not found, please refer to API document."
NOT_ALLOWED = "Requested method is not allowed, please refer to API document."
FORM, FORM_TYPE = form({"model_name": "noop", "data": ("data.txt", "text/plain", b"test")})
FIELD = {"Content-Type": "application/x-www-form-urlencoded"}

DOCUMENTS = [
    predict("routes.options-root", "OPTIONS /", 200, "/predictions/{model_name}"),
    manage("routes.options-root-management", "OPTIONS /", 200, "registerModel"),
    predict("routes.api-description", "GET /api-description", 200, "/predictions/{model_name}"),
    predict("routes.api-description-post", "POST /api-description", 200, "openapi"),
    manage("routes.api-description-management", "GET /api-description", 200, "registerModel"),
    predict("routes.api-description-deeper", "GET /api-description/x", 405, NOT_ALLOWED),
    predict("routes.options-model", "OPTIONS /predictions/noop", 200, "RESTful API for: noop"),
    predict("routes.options-invoke", "OPTIONS /models/noop/invoke", 200, "RESTful API for: noop"),
    predict("routes.options-legacy", "OPTIONS /noop/predict", 200, "RESTful API for: noop"),
    predict("routes.options-invocations", "OPTIONS /invocations?model_name=noop", 200, "RESTful API for: noop"),
    predict("routes.options-unknown-model", "OPTIONS /predictions/InvalidModel", 404, "Model not found: InvalidModel"),
    predict("routes.get-root", "GET /", 405, NOT_ALLOWED),
    predict("routes.post-root", "POST /", 405, NOT_ALLOWED, body=TEST),
    manage("routes.get-root-management", "GET /", 405, NOT_ALLOWED),
    predict("routes.options-ping", "OPTIONS /ping", 200, "Healthy"),
    manage("routes.options-models", "OPTIONS /models", 405, NOT_ALLOWED),
]
PING = [
    predict("routes.ping", "GET /ping", 200, '"Healthy"'),
    predict("routes.ping-post", "POST /ping", 200, '"Healthy"', body=TEST),
    predict("routes.ping-put", "PUT /ping", 200, '"Healthy"', body=TEST),
    predict("routes.ping-delete", "DELETE /ping", 200, '"Healthy"'),
    predict("routes.ping-head", "HEAD /ping", 200),
    predict("routes.ping-slash", "GET /ping/", 200, '"Healthy"'),
    predict("routes.ping-deeper", "GET /ping/x", 200, "Healthy"),
    predict("routes.ping-query", "GET /ping?a=b", 200, '"Healthy"'),
]
PREDICTIONS = [
    predict("routes.predictions-form", "POST /predictions/noop", 200, "OK", body="data=test", headers=FIELD),
    predict("routes.predictions-octets", "POST /predictions/noop", 200, "OK", body=TEST,
            headers={"Content-Type": "application/octet-stream"}),
    predict("routes.predictions-json", "POST /predictions/noop", 200, "OK", body='{"data":"test"}',
            headers={"Content-Type": JSON}),
    predict("routes.predictions-get", "GET /predictions/noop", 200, "OK"),
    predict("routes.predictions-put", "PUT /predictions/noop", 200, "OK", body=TEST),
    predict("routes.predictions-delete", "DELETE /predictions/noop", 200, "OK"),
    predict("routes.predictions-patch", "PATCH /predictions/noop", 200, "OK", body=TEST),
    predict("routes.predictions-version", "POST /predictions/noop/1.0", 200, "OK", body=TEST),
    predict("routes.predictions-deeper", "POST /predictions/noop/1.0/more/of/it", 200, "OK", body=TEST),
    predict("routes.predictions-slash", "POST /predictions/noop/", 200, "OK", body=TEST),
    predict("routes.predictions-escaped", "POST /predictions/no%6Fp", 200, "OK", body=TEST),
    predict("routes.predictions-none", "GET /predictions", 404, NOT_FOUND),
    predict("routes.predictions-none-slash", "GET /predictions/", 404, NOT_FOUND),
    predict("routes.predictions-unknown", "GET /predictions/InvalidModel", 404, "Model not found: InvalidModel"),
    predict("routes.predictions-odd-name", "GET /predictions/a%20b%3Cc%3E", 404, "Model not found: "),
]  # fmt: skip
OTHERS = [
    predict("routes.invocations", "POST /invocations?model_name=noop", 200, "OK", body='{"data":"test"}',
            headers={"Content-Type": JSON}),
    predict("routes.invocations-multipart", "POST /invocations?model_name=noop", 200, "OK", body=FORM,
            headers=FORM_TYPE),
    predict("routes.invocations-form-name", "POST /invocations", 200, "OK", body=FORM, headers=FORM_TYPE),
    predict("routes.invocations-get", "GET /invocations?model_name=noop", 200, "OK"),
    predict("routes.invocations-empty-name", "POST /invocations?model_name=", 200, "OK", body=TEST),
    predict("routes.invocations-unknown", "POST /invocations?model_name=nix", 404, "Model not found: nix", body=TEST),
    predict("routes.invocations-deeper", "POST /invocations/x", 404, NOT_FOUND, body=TEST),
    predict("routes.invoke", "POST /models/noop/invoke", 200, "OK", body='{"data":"test"}',
            headers={"Content-Type": JSON}),
    predict("routes.invoke-multipart", "POST /models/noop/invoke", 200, "OK", body=FORM, headers=FORM_TYPE),
    predict("routes.invoke-get", "GET /models/noop/invoke", 200, "OK"),
    predict("routes.invoke-slash", "GET /models/noop/invoke/", 200, "OK"),
    predict("routes.invoke-deeper", "GET /models/noop/invoke/x", 404, NOT_FOUND),
    predict("routes.invoke-other", "POST /models/noop/other", 404, NOT_FOUND, body=TEST),
    predict("routes.invoke-unknown", "POST /models/nix/invoke", 404, "Model not found: nix", body=TEST),
    predict("routes.legacy", "GET /noop/predict?data=test", 200, "OK"),
    predict("routes.legacy-post", "POST /noop/predict", 200, "OK", body=FORM, headers=FORM_TYPE),
    predict("routes.legacy-slash", "POST /noop/predict/", 200, "OK", body=TEST),
    predict("routes.legacy-deeper", "POST /noop/predict/x", 404, NOT_FOUND, body=TEST),
    predict("routes.legacy-unknown", "GET /nix/predict", 404, "Model not found: nix"),
    predict("routes.unknown", "GET /InvalidUrl", 404, NOT_FOUND),
    predict("routes.unknown-deep", "POST /a/b/c/d", 404, NOT_FOUND, body=TEST),
    predict("routes.models-at-inference", "GET /models", 404, NOT_FOUND),
    predict("routes.model-at-inference", "GET /models/noop", 404, NOT_FOUND),
    predict("routes.register-at-inference", "POST /models?url=echo", 404, NOT_FOUND),
    predict("routes.double-slash", "GET //ping", 404, NOT_FOUND),
]  # fmt: skip
MANAGEMENT = [
    manage("routes.management-unknown", "GET /InvalidUrl", 404, NOT_FOUND),
    manage("routes.management-ping", "GET /ping", 404, NOT_FOUND),
    manage("routes.management-predict", "POST /predictions/noop", 404, NOT_FOUND, body=TEST),
    manage("routes.management-invocations", "POST /invocations?model_name=noop", 404, NOT_FOUND, body=TEST),
    manage("routes.management-deeper", "GET /models/a/b", 404, NOT_FOUND),
    manage("routes.management-put-list", "PUT /models", 405, NOT_ALLOWED),
    manage("routes.management-delete-list", "DELETE /models", 405, NOT_ALLOWED),
    manage("routes.management-post-model", "POST /models/noop", 405, NOT_ALLOWED),
    manage("routes.management-patch-model", "PATCH /models/noop", 405, NOT_ALLOWED),
    manage("routes.management-head-model", "HEAD /models/noop", 405),
    manage("routes.management-head-list", "HEAD /models", 405),
    manage("routes.management-list-slash", "GET /models/", 200, "noop"),
]
CHECKS = [*DOCUMENTS, *PING, *PREDICTIONS, *OTHERS, *MANAGEMENT]
