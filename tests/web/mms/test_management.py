"""Multi Model Server's management API; expected values are those of its own tests and documents."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app, load_models
from app.settings import ROOT, Settings
from bench.ports import free_ports
from tests.conftest import CACHE
from tests.pictures import encode, face_crop
from tests.rounding import nearly

FACE = encode(face_crop())
HANDLER = """
import os

def handle(data, context):
    if data is None:
        return None
    context.set_response_header(0, "Content-Length", "3")
    bodies = [bytes(row.get("body") or row.get("data")).decode() for row in data]
    return [{"pid": os.getpid(), "id": context.get_request_id(0), "body": bodies[0]}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a models folder with ``smile``, and beside it, in ``store``, what is registered later."""
    models = tmp_path / "models"
    copy_smile(models / "smile")
    copy_smile(models / "later" / "grin")
    write_handler(models / "later" / "echo", HANDLER)
    return Settings(
        models_dir=models,
        uploads_dir=tmp_path / "uploads",
        instance_dir=tmp_path / "instance",
        cache_dir=CACHE,
        shipped_models=False,
        workers=2,
        model_url_private=True,  # archives are fetched from this machine
    )


def copy_smile(folder: Path) -> Path:
    """Copy the smile model under the folder's name, which its manifest states, too."""
    shutil.copytree(ROOT / "models" / "smile", folder)
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"modelName": "smile"', f'"modelName": "{folder.name}"'))
    return folder


def write_handler(folder: Path, code: str) -> None:
    (folder / "MAR-INF").mkdir(parents=True)
    manifest = {"runtime": "python", "model": {"modelName": folder.name, "handler": "service:handle"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "service.py").write_text(code)


def started(settings: Settings) -> Flask:
    app = create_app(settings)
    load_models(app)
    return app


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = started(settings)
    yield app
    app.extensions["dimple"].registry.close()


class Api:
    """The two ports of one application."""

    def __init__(self, app: Flask) -> None:
        self.client: FlaskClient = app.test_client()

    def manage(self, method: str, path: str, **more: object) -> TestResponse:
        return self.client.open(path, method=method, base_url="http://localhost:8081", **more)

    def predict(self, name: str, data: bytes = FACE) -> TestResponse:
        return self.client.post(f"/predictions/{name}", data=data, base_url="http://localhost:8080")


@pytest.fixture
def api(app: Flask) -> Api:
    return Api(app)


def error(response: TestResponse) -> tuple[int, str, str]:
    assert response.json["code"] == response.status_code
    return response.status_code, response.json["type"], response.json["message"]


def test_a_model_is_registered_scaled_described_and_unregistered(api: Api) -> None:
    registered = api.manage("POST", "/models?url=later/grin")
    assert (registered.status_code, registered.json) == (200, {"status": 'Model "grin" registered'})
    assert error(api.predict("grin")) == (
        503,
        "ServiceUnavailableException",
        "No worker is available to serve request for model: grin. Consider increasing job queue size.",
    )
    scaled = api.manage("PUT", "/models/grin?min_worker=2")
    assert (scaled.status_code, scaled.json) == (202, {"status": "Processing worker updates..."})
    assert api.predict("grin").json == nearly(api.predict("smile").json)
    described = api.manage("GET", "/models/grin").json
    assert list(described)[:9] == [
        "modelName", "modelVersion", "modelUrl", "runtime", "minWorkers", "maxWorkers", "batchSize",
        "maxBatchDelay", "loadedAtStartup",
    ]  # fmt: skip
    assert (described["modelUrl"], described["loadedAtStartup"], len(described["workers"])) == ("later/grin", False, 2)
    gone = api.manage("DELETE", "/models/grin")
    assert (gone.status_code, gone.json) == (200, {"status": 'Model "grin" unregistered'})
    assert error(api.predict("grin")) == (404, "ModelNotFoundException", "Model not found: grin")


def test_synchronous_registration_with_workers_serves_at_once(api: Api) -> None:
    body = "{'url':'later/grin', 'model_name':'smirk', 'initial_workers':'1', 'synchronous':'true'}"
    done = api.manage("POST", "/models", data=body, content_type="application/json")
    assert (done.status_code, done.json) == (200, {"status": "Workers scaled"})
    assert api.predict("smirk").status_code == 200


def test_models_are_listed_by_name_in_pages(api: Api) -> None:
    for name in ("grin", "echo"):
        api.manage("POST", f"/models?url=later/{name}")
    first = api.manage("GET", "/models?limit=2").json
    assert [item["modelName"] for item in first["models"]] == ["echo", "grin"]
    second = api.manage("GET", f"/models?limit=2&next_page_token={first['nextPageToken']}").json
    assert second == {"models": [{"modelName": "smile", "modelUrl": "smile"}]}
    assert api.manage("GET", "/models?next_page_token=12").json == {"models": []}
    assert len(api.manage("GET", "/models?limit=200&nextPageToken=X").json["models"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/models", (400, "BadRequestException", "Parameter url is required.")),
        ("POST", "/models?url=smile", (409, "ConflictStatusException", "Model smile is already registered.")),
        (
            "POST",
            "/models?url=InvalidUrl",
            (404, "ModelNotFoundException", "Model not found in model store: InvalidUrl"),
        ),
        (
            "POST",
            "/models?url=InvalidUrl&runtime=InvalidRuntime",
            (400, "BadRequestException", "Invalid RuntimeType value: InvalidRuntime"),
        ),
        (
            "POST",
            "/models?url=../fake.mar",
            (404, "ModelNotFoundException", "Relative path is not allowed in url: ../fake.mar"),
        ),
        (
            "POST",
            "/models?url=http://localhost:aaaa",
            (404, "ModelNotFoundException", "Invalid model url: http://localhost:aaaa"),
        ),
        ("PUT", "/models/fake", (404, "ModelNotFoundException", "Model not found: fake")),
        ("DELETE", "/models/fake", (404, "ModelNotFoundException", "Model not found: fake")),
        ("GET", "/models/fake", (404, "ModelNotFoundException", "Model not found: fake")),
        (
            "PUT",
            "/models/smile?min_worker=10&max_worker=9",
            (400, "BadRequestException", "max_worker cannot be less than min_worker."),
        ),
    ],
)
def test_refusals_have_the_messages_of_mms(api: Api, method: str, path: str, expected: tuple[int, str, str]) -> None:
    assert error(api.manage(method, path)) == expected


@pytest.mark.parametrize(
    ("method", "path", "code", "kind", "word"),
    [
        ("PUT", "/models", 405, "MethodNotAllowedException", "method is not allowed"),
        ("POST", "/models/smile", 405, "MethodNotAllowedException", "method is not allowed"),
        ("GET", "/ping", 404, "ResourceNotFoundException", "resource is not found"),
        ("GET", "/models/a/b", 404, "ResourceNotFoundException", "resource is not found"),
        ("GET", "/InvalidUrl", 404, "ResourceNotFoundException", "resource is not found"),
    ],
)
def test_unknown_management_requests_get_the_message_of_mms(
    api: Api, method: str, path: str, code: int, kind: str, word: str
) -> None:
    response = api.manage(method, path)
    assert error(response) == (code, kind, f"Requested {word}, please refer to API document.")
    assert response.headers["x-request-id"]


def test_an_archive_is_fetched_from_a_web_server(api: Api, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    shutil.make_archive(str(site / "far"), "zip", ROOT / "models" / "smile")
    handler = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        done = api.manage("POST", f"/models?url={base}/far.zip&model_name=far&initial_workers=1")
        missing = api.manage("POST", f"/models?url={base}/no.mar")
    finally:
        server.shutdown()
        server.server_close()
    assert done.status_code == 200
    assert api.predict("far").status_code == 200
    assert error(missing) == (
        400, "DownloadModelException", f"Failed to download model from: {base}/no.mar, code: 404"
    )  # fmt: skip
    assert list((tmp_path / "instance" / "archives" / "fetched").iterdir()) == []


def test_an_unreachable_download_server_is_reported(api: Api) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/fake.mar"
    done = api.manage("POST", f"/models?url={url}")
    assert error(done) == (400, "DownloadModelException", f"Failed to download model from: {url}")


def test_a_model_that_cannot_be_loaded_is_refused_and_not_registered(api: Api, settings: Settings) -> None:
    broken = copy_smile(settings.models_dir / "later" / "broken")
    for path in (*broken.glob("*.params"), *broken.glob("*.h5")):
        path.unlink()
    code, kind, message = error(api.manage("POST", "/models?url=later/broken"))
    assert (code, kind) == (400, "InvalidModelException")
    assert "smile-symbol.json" in message
    assert api.manage("GET", "/models/broken").status_code == 404


def test_registrations_are_restored_after_a_restart(app: Flask, settings: Settings) -> None:
    api = Api(app)
    api.manage("POST", "/models?url=later/grin&initial_workers=3&batch_size=4")
    api.manage("PUT", "/models/smile?min_worker=7")
    again = started(settings)
    later = Api(again)
    described = later.manage("GET", "/models/grin").json
    assert (described["minWorkers"], described["batchSize"], described["modelUrl"]) == (3, 4, "later/grin")
    assert later.manage("GET", "/models/smile").json["minWorkers"] == 7
    assert later.predict("grin").status_code == 200
    again.extensions["dimple"].registry.close()


def test_an_unregistered_model_stays_unregistered_after_a_restart(app: Flask, settings: Settings) -> None:
    Api(app).manage("DELETE", "/models/smile")
    again = started(settings)
    later = Api(again)
    assert later.predict("smile").status_code == 404
    assert later.manage("POST", "/models?url=smile&initial_workers=1").status_code == 200
    assert later.predict("smile").status_code == 200
    again.extensions["dimple"].registry.close()


def test_changes_reach_other_processes_by_the_next_request(app: Flask, settings: Settings) -> None:
    here, there_app = Api(app), started(settings)  # two connections to one file, as two processes have
    there = Api(there_app)
    here.manage("POST", "/models?url=later/grin&initial_workers=1")
    assert there.predict("grin").status_code == 200
    there.manage("PUT", "/models/grin?min_worker=0")
    assert here.predict("grin").status_code == 503
    here.manage("DELETE", "/models/grin")
    assert there.predict("grin").status_code == 404
    there_app.extensions["dimple"].registry.close()


def test_the_code_of_an_archive_runs_in_another_process(api: Api) -> None:
    assert api.manage("POST", "/models?url=later/echo&initial_workers=1").status_code == 200
    answer = api.predict("echo", b"hello").json
    assert answer["body"] == "hello"
    workers = api.manage("GET", "/models/echo").json["workers"]
    assert [worker["pid"] for worker in workers] == [answer["pid"]]
    assert workers[0]["status"] == "READY"
    assert "/predictions/echo" in api.client.post("/predict/echo", data=FACE).json["message"]


def test_a_handler_and_the_client_get_the_same_request_id(api: Api) -> None:
    api.manage("POST", "/models?url=later/echo&initial_workers=1")
    response = api.predict("echo", b"hello")
    assert response.json["id"] == response.headers["x-request-id"]
    assert int(response.headers["Content-Length"]) == len(response.data) > 3


def test_a_refused_request_gets_a_retry_after_header(api: Api) -> None:
    api.manage("POST", "/models?url=later/grin")
    refused = api.predict("grin")
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0


def test_ping_reports_only_missing_workers(api: Api, settings: Settings) -> None:
    def ping() -> str:
        return str(api.client.get("/ping").json["status"])

    api.manage("POST", "/models?url=later/grin")
    assert ping() == "Healthy"
    bad = "def handle(data, context):\n    if context.system_properties['gpu_id'] is None: raise ValueError('no')\n"
    write_handler(settings.models_dir / "later" / "bad", bad)
    assert api.manage("POST", "/models?url=later/bad").status_code == 200
    api.manage("PUT", "/models/bad?min_worker=1&synchronous=true")
    assert ping() == "Partial Healthy"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("batch_size=0", "batch_size"),
        ("max_batch_delay=-1", "max_batch_delay"),
        ("initial_workers=1025", "initial_workers"),
    ],
)
def test_impossible_numbers_are_refused(api: Api, query: str, named: str) -> None:
    code, kind, message = error(api.manage("POST", f"/models?url=later/grin&{query}"))
    assert (code, kind) == (400, "BadRequestException")
    assert named in message
    assert error(api.manage("PUT", "/models/smile?min_worker=1025"))[0] == 400


@pytest.mark.parametrize("text", ["x", "1.5", "1_0", " 2", "2147483648", "9" * 30, ""])
def test_invalid_numbers_count_as_missing(api: Api, text: str) -> None:
    listed = api.manage("GET", "/models", query_string={"limit": text}).json
    assert [item["modelName"] for item in listed["models"]] == ["smile"]


def test_the_documented_name_of_the_url_parameter_is_accepted_too(api: Api) -> None:
    assert api.manage("POST", "/models?model_url=later/grin").json == {"status": 'Model "grin" registered'}


def test_code_that_cannot_be_loaded_is_refused_and_not_registered(api: Api, settings: Settings) -> None:
    write_handler(settings.models_dir / "later" / "bad", "def handle(data, context):\n    raise ValueError('no')\n")
    done = api.manage("POST", "/models?url=later/bad&initial_workers=1&synchronous=true")
    assert error(done) == (500, "InternalServerException", "Failed to start workers")
    assert api.manage("GET", "/models/bad").status_code == 404


def test_management_answers_only_at_its_own_port(api: Api) -> None:
    assert api.client.get("/models", base_url="http://localhost:8080").status_code == 404
    assert api.client.post("/models?url=later/grin", base_url="http://localhost:8080").status_code in (404, 405)
    assert api.manage("POST", "/predictions/smile", data=FACE).status_code == 404


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}])
def test_a_page_of_another_site_cannot_register_a_model(api: Api, headers: dict[str, str]) -> None:
    refused = api.manage("POST", "/models?url=later/grin&initial_workers=1", headers=headers)
    assert refused.status_code == 403
    assert api.predict("grin").status_code == 404


@pytest.mark.parametrize("name", ["url", "model_name", "handler", "runtime"])
def test_values_in_json_have_the_length_limits_of_a_query(client: FlaskClient, name: str) -> None:
    given = {"url": "smile", "model_name": "long", name: "a" * 2**20}
    refused = client.post("/models", json=given, base_url="http://localhost:8081")
    assert (refused.status_code, f"{name}=" in refused.json["message"]) == (400, True)
