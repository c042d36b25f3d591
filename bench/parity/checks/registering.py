"""POST, PUT, GET and DELETE of ``/models``: parameters, order of the tests, words of the errors."""

from __future__ import annotations

from bench.parity.answer import Answer
from bench.parity.check import JSON, describe, manage, predict, probe
from bench.parity.peer import Peer

AS_JSON = {"Content-Type": JSON}
LENIENT = "{'url':'noop-v0.1', 'model_name':'noop_v0.1', 'initial_workers':'1', 'synchronous':'true'}"


REFUSED = [
    manage("register.no-url", "POST /models", 400, "Parameter url is required."),
    manage("register.bad-runtime", "POST /models?url=InvalidUrl&runtime=InvalidRuntime", 400,
           "Invalid RuntimeType value: InvalidRuntime"),
    manage("register.runtime-upper-case", "POST /models?url=echo&runtime=PYTHON", 400, "Invalid RuntimeType value"),
    manage("register.not-there", "POST /models?url=InvalidUrl", 404, "Model not found in model store: InvalidUrl"),
    manage("register.bad-url", "POST /models?url=http%3A%2F%2Flocalhost%3Aaaaa", 404,
           "Invalid model url: http://localhost:aaaa"),
    manage("register.nobody-listens", "POST /models?url=http%3A%2F%2Flocalhost%3A18888%2Ffake.mar", 400,
           "Failed to download model from: http://localhost:18888/fake.mar"),
    manage("register.from-itself", "POST /models?url=http%3A%2F%2F127.0.0.1%3A{port}%2Ffake.mar", 400,
           "code: 404", masked=("message",)),
    manage("register.from-itself-405", "POST /models?url=http%3A%2F%2F127.0.0.1%3A{management_port}%2F", 400,
           "code: 405", masked=("message",)),
    manage("register.relative", "POST /models?url=../fake.mar", 404,
           "Relative path is not allowed in url: ../fake.mar"),
    manage("register.relative-inside", "POST /models?url=noop-v1.0/../noop-v1.0", 404, "Relative path is not allowed"),
    manage("register.absolute", "POST /models?url=/etc", 404, "Model not found in model store"),
    manage("register.file-url", "POST /models?url=file:///etc/passwd", 404),
    manage("register.garbage", "POST /models?url=garbage.mar", 400, drops="garbage"),
    manage("register.empty-file", "POST /models?url=empty-file.mar", 400, drops="empty-file"),
    manage("register.no-model-entry", "POST /models?url=no-model-entry", 400, "Model name is not defined.",
           drops="no-model-entry"),
    manage("register.no-model-name", "POST /models?url=no-model-name", 400, "Model name is not defined.",
           drops="no-model-name"),
    manage("register.no-handler", "POST /models?url=no-handler", 400, "Model handler is not defined.",
           drops="no_handler"),
    manage("register.manifest-runtime", "POST /models?url=bad-runtime", 400, drops="bad_runtime"),
    manage("register.no-engine-name", "POST /models?url=no-engine-name", 400, "engineName is required in",
           drops="no_engine_name"),
    manage("register.broken-manifest", "POST /models?url=bad-manifest", 400, "Failed to parse signature.json."),
    manage("register.twice", "POST /models?url=noop-v1.0", 409, "Model noop is already registered."),
    manage("register.broken-json", "POST /models", 500, body='{"url": ', headers=AS_JSON),
    manage("register.empty-json", "POST /models", 400, body="{}", headers=AS_JSON),
    manage("register.no-body-as-json", "POST /models", 500, headers=AS_JSON),
    manage("register.json-list", "POST /models", 500, body="[]", headers=AS_JSON),
    manage("register.json-hides-query", "POST /models?url=noop-v0.1", 400, "Parameter url is required.", body="{}",
           headers=AS_JSON),
    manage("register.numbers-of-json", "POST /models", 500, body='{"url": "echo", "initial_workers": "many"}',
           headers=AS_JSON, drops="echo"),
]  # fmt: skip
ROUND = [  # as ModelServerTest and the Postman collection of management go about it
    manage("register.async-none", "POST /models?url=noop-v0.1&model_name=noop_v0.1&runtime=python&synchronous=false",
           200,
           'Model \\"noop_v0.1\\" registered'),
    describe("register.describe-none", "noop_v0.1", '"minWorkers": 0'),
    predict("register.no-worker", "POST /predictions/noop_v0.1", 503, "No worker is available", body=b"test"),
    predict("register.ping-no-worker", "GET /ping", 200, "Healthy"),
    manage("scale.sync", "PUT /models/noop_v0.1?synchronous=true&min_worker=1", 200, "Workers scaled"),
    predict("scale.answers", "POST /predictions/noop_v0.1", 200, "OK", body=b"test"),
    manage("scale.async", "PUT /models/noop_v0.1?min_worker=2", 202, "Processing worker updates..."),
    manage("list.other-key", "GET /models?limit=200&nextPageToken=X", 200, "noop_v0.1"),
    manage("list.first", "GET /models?limit=1", 200, "nextPageToken"),
    manage("list.second", "GET /models?limit=1&next_page_token=1", 200),
    manage("list.past-the-end", "GET /models?next_page_token=12", 200),
    manage("list.none", "GET /models?limit=0", 200),
    manage("list.negative", "GET /models?limit=-1&next_page_token=-5", 200),
    manage("list.no-numbers", "GET /models?limit=x&next_page_token=y", 200),
    manage("scale.sync-two", "PUT /models/noop_v0.1?synchronous=true&min_worker=2", 200, "Workers scaled"),
    describe("scale.describe-two", "noop_v0.1", '"minWorkers": 2'),
    manage("scale.default", "PUT /models/noop_v0.1", 202, "Processing worker updates..."),
    manage("scale.more-keys", "PUT /models/noop_v0.1?min_worker=1&max_worker=2&number_gpu=10&timeout=-1", 202),
    manage("scale.no-number", "PUT /models/noop_v0.1?min_worker=many&synchronous=true", 200),
    describe("scale.describe-range", "noop_v0.1", '"minWorkers": 1'),
    manage("scale.max-below-min", "PUT /models/noop_v0.1?min_worker=10&max_worker=9", 400,
           "max_worker cannot be less than min_worker."),
    manage("scale.max-below-min-unknown", "PUT /models/fake?min_worker=10&max_worker=9", 400, "max_worker cannot"),
    manage("scale.max-alone", "PUT /models/noop_v0.1?max_worker=0", 400, "max_worker cannot"),
    manage("scale.unknown", "PUT /models/fake", 404, "Model not found: fake"),
    manage("describe.unknown", "GET /models/InvalidModel", 404, "Model not found: InvalidModel"),
    manage("unregister.unknown", "DELETE /models/fake", 404, "Model not found: fake"),
    manage("unregister.scaled", "DELETE /models/noop_v0.1?synchronous=false", 200, "unregistered"),
    manage("unregister.twice", "DELETE /models/noop_v0.1", 404, "Model not found: noop_v0.1"),
    manage("register.sync", "POST /models?url=noop-v0.1&model_name=noop_v0.1&initial_workers=1&synchronous=true", 200,
           "Workers scaled"),
    manage("unregister.sync", "DELETE /models/noop_v0.1", 200, "unregistered"),
    manage("register.lenient-json", "POST /models", 200, "Workers scaled", body=LENIENT, headers=AS_JSON),
    predict("register.lenient-answers", "POST /predictions/noop_v0.1", 200, "OK", body=b"test"),
    manage("unregister.lenient", "DELETE /models/noop_v0.1", 200, "unregistered"),
    manage("register.async", "POST /models?url=noop-v0.1&initial_workers=1&synchronous=false", 202,
           "Processing worker updates..."),
    manage("register.async-scaled", "PUT /models/noop_v0.1?synchronous=true&min_worker=1", 200, "Workers scaled"),
    manage("unregister.async", "DELETE /models/noop_v0.1", 200, "unregistered"),
    manage("register.sync-default", "POST /models?url=noop-v0.1&initial_workers=1", 200, "Workers scaled"),
    manage("unregister.sync-default", "DELETE /models/noop_v0.1", 200, "unregistered"),
    manage("register.odd-numbers",
           "POST /models?url=noop-v0.1&initial_workers=x&batch_size=y&max_batch_delay=z&response_timeout=w", 200),
    describe("register.odd-numbers-described", "noop_v0.1", '"batchSize": 1'),
    manage("unregister.odd-numbers", "DELETE /models/noop_v0.1", 200, "unregistered"),
    manage("register.all-keys", "POST /models?url=noop-v1.0&model_name=second&handler=service:handle&runtime=python3"
           "&batch_size=3&max_batch_delay=50&initial_workers=1&synchronous=true&response_timeout=2&preload_model=true",
           200, "Workers scaled"),
    describe("register.all-keys-described", "second", '"batchSize": 3'),
    predict("register.second-name", "POST /predictions/second", 200, "OK", body=b"test"),
    manage("unregister.second", "DELETE /models/second", 200, "unregistered"),
    manage("register.odd-name", "POST /models?url=noop-v1.0&model_name=a%20b", 200, drops="a%20b"),
]  # fmt: skip


def up(peer: Peer) -> Answer:
    """Scale up a model that has no workers left; MMS never answers that."""
    return peer.ask("PUT", "/models/zero?min_worker=1&synchronous=true", management=True, timeout=10)


ZERO = [
    manage("zero.register", "POST /models?url=noop-v1.0&model_name=zero&initial_workers=1", 200, "Workers scaled"),
    manage("zero.down", "PUT /models/zero?min_worker=0&synchronous=true", 200, "Workers scaled"),
    predict("zero.predict", "POST /predictions/zero", 503, "No worker is available", body=b"test"),
    probe("zero.up", "management PUT /models/zero?min_worker=1&synchronous=true, for 10 s", up, 0),
    manage("zero.unregister", "DELETE /models/zero", 200, "unregistered"),
]
PACKAGES = [
    check
    for name, handler in (
        ("dotted", ""),
        ("name", "&handler=svc:handle"),
        ("path", "&handler=svc/handler.py:handle"),
        ("absolute", "&handler={store}/package/svc/handler.py:handle"),
    )
    for check in (
        manage(f"package.{name}", f"POST /models?url=package&initial_workers=1{handler}", 200, "Workers scaled"),
        predict(f"package.{name}-answers", "POST /predictions/package", 200, "of the package", body=b"test"),
        manage(f"package.{name}-unregister", "DELETE /models/package", 200, "unregistered"),
    )
]  # fmt: skip
CHECKS = [*REFUSED, *ROUND, *ZERO, *PACKAGES]
