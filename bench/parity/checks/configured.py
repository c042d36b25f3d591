"""The effects of ``config.properties``."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.parity.answer import Answer, of_document
from bench.parity.check import JSON, Check, describe, form, manage, predict, probe
from bench.parity.peer import Peer

CONFIG = {
    "decode_input_request": "false",
    "default_service_handler": "service:handle",
    "default_workers_per_model": "1",
    "job_queue_size": "2",
    "default_response_timeout_seconds": "3",
    "max_response_size": "500000",
    "unregister_model_timeout": "0",
    "cors_allowed_origin": "https://example.org",
    "cors_allowed_methods": "GET, POST, PUT, OPTIONS",
    "cors_allowed_headers": "Content-Type, X-Own",
    "blacklist_env_vars": ".*PARITY_HIDDEN.*",
    "enable_envvars_config": "true",
    "number_of_gpu": "1",  # of none, on most machines: handlers must be told so
}
"""Everything that shows over HTTP, away from its default."""
ENVIRON = {
    "MMS_MAX_REQUEST_SIZE": "2000000",
    "PARITY_HIDDEN": "nobody may see this",
    "PARITY_SHOWN": "everybody may",
    "PYTHONPATH": str(Path(__file__).parent.parent / "path"),
    "DIMPLE_HANDLER_ENV": "PARITY_*",  # MMS's workers have the whole environment
}
ORIGIN = {"Origin": "https://example.org"}
TWO = form({"data": ("a.txt", "text/plain", b"a"), "more": ("b.json", JSON, b"{}")})


def crowd(peer: Peer) -> Answer:
    """Send one request that keeps the worker busy, and five more meanwhile, two of which may wait."""
    with ThreadPoolExecutor(6) as pool:
        pending = [pool.submit(_slow, peer)]
        time.sleep(0.4)
        pending += [pool.submit(_slow, peer) for _ in range(5)]
        statuses = [item.result().status for item in pending]
    return of_document({"answered": statuses.count(200), "refused": statuses.count(503)})


def _slow(peer: Peer) -> Answer:
    return peer.ask("POST", "/predictions/actor", b"0.8", {"do": "sleep"})


CHECKS: list[Check] = [
    predict("config.ping", "GET /ping", 200, "Healthy"),
    manage("config.nothing-loaded", "GET /models", 200, '"models": []'),
    predict("config.nothing-to-invoke", "POST /invocations", 400, "Parameter model_name is required.", b"x"),
    manage("config.default-handler", "POST /models?url=noop-no-manifest&model_name=bare", 200, "Workers scaled"),
    describe("config.default-workers", "bare", '"minWorkers": 1'),
    predict("config.default-handler-answers", "POST /predictions/bare", 200, "OK", b"x"),
    predict("config.invocations-registered-later", "POST /invocations", 400, "Parameter model_name", b"x"),
    manage("config.handler-of-manifest", "POST /models?url=no-handler", 200, "Workers scaled"),
    predict("config.cors", "POST /predictions/bare", 200, "OK", b"x", ORIGIN),
    predict("config.cors-no-origin", "POST /predictions/bare", 200, "OK", b"x"),
    predict("config.cors-preflight", "OPTIONS /predictions/bare", 200, "RESTful", headers={
        **ORIGIN, "Access-Control-Request-Method": "POST"}),
    predict("config.cors-error", "POST /predictions/nix", 404, "Model not found", b"x", ORIGIN),
    manage("config.cors-management", "GET /models/nix", 404, "Model not found", headers=ORIGIN),
    manage("config.handler-on-path", "POST /models?url=noop-v1.0&model_name=outside"
           "&handler=shared_handlers.outside:handle", 200, "Workers scaled"),
    predict("config.handler-on-path-answers", "POST /predictions/outside", 200, "of the path", b"x"),
    manage("config.echo", "POST /models?url=echo", 200, "Workers scaled"),
    predict("config.decode-json", "POST /predictions/echo", 200, "bytearray", '{"a": 1}', {"Content-Type": JSON}),
    predict("config.decode-broken-json", "POST /predictions/echo", 200, "bytearray", '{"a": ', {"Content-Type": JSON}),
    predict("config.decode-text", "POST /predictions/echo", 200, "bytearray", "a", {"Content-Type": "text/plain"}),
    predict("config.decode-form", "POST /predictions/echo", 200, "bytearray", *TWO),
    predict("config.environment-limit", "POST /predictions/echo", 413, "", b"x" * 2_100_000),
    manage("config.actor", "POST /models?url=actor", 200, "Workers scaled"),
    predict("config.gpu", "POST /predictions/actor", 200, "gpu_id", b"x", {"do": "tell_context"}),
    predict("config.blacklist", "POST /predictions/actor", 200, "false", b"x", {"do": "tell_environment"}),
    predict("config.short-response", "POST /predictions/actor", 200, "plain", b"x"),
    probe("config.queue", "one that keeps the worker, five that come meanwhile", crowd, says='"answered": 3'),
    predict("config.timeout", "POST /predictions/actor", 500, "Worker died.", b"6", {"do": "sleep"}),
    predict("config.after-timeout", "POST /predictions/actor", 200, "plain", b"x"),
    predict("config.long-response", "POST /predictions/actor", 500, "Worker died.", b"x", {"do": "large"}),
    predict("config.after-long-response", "POST /predictions/actor", 200, "plain", b"x"),
    manage("config.unregister-timeout", "DELETE /models/bare", 408, "Timed out while cleaning resources: bare"),
    describe("config.unregister-put-back", "bare", '"modelName": "bare"', masked=("workers",)),
]  # fmt: skip
