"""Models with code of their own in the Open Inference Protocol; their processes are real."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app, load_models
from app.settings import Settings
from tests.conftest import running_app
from tests.formats.archive.archives import manifest, put
from tests.web.oip.asking import elements, infer, outputs

SERVICE = """
def handle(data, context):
    if data is None:
        return None
    answers = []
    for number, row in enumerate(data):
        body = row.get("body")
        if body == b"raise":
            raise ValueError("told so")
        if body == b"refuse":
            context.set_response_status(422, "not this one", number)
        if body == b"bytes":
            answers.append(bytes([255, 0, 254]))
            continue
        answers.append({name: type(value).__name__ for name, value in row.items()})
    return answers
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    work = tmp_path_factory.mktemp("handled")
    files = {"service.py": SERVICE, "MAR-INF/MANIFEST.json": manifest(modelName="coded", handler="service:handle")}
    put(work / "models" / "coded", files)
    folders = {f"{name}_dir": work / name for name in ("models", "uploads", "instance")}
    with running_app(
        Settings(shipped_models=False, default_workers_per_model=1, workers=1, max_files=3, **folders)
    ) as app:
        yield app


def column(name: str, *texts: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": list(texts), "parameters": parameters}


def test_a_custom_model_is_ready_and_has_bytes_inputs_and_outputs(client: FlaskClient) -> None:
    assert client.get("/v2/models/coded/ready").json == {"name": "coded", "ready": True}
    metadata = client.get("/v2/models/coded").json
    assert metadata["platform"] == "dimple_handler"
    assert metadata["inputs"] == metadata["outputs"] == [{"name": "body", "datatype": "BYTES", "shape": [-1]}]


def test_an_element_is_passed_to_the_handler_like_a_body(client: FlaskClient) -> None:
    found = outputs(infer(client, "coded", {"inputs": [column("body", "hello")]}))
    assert found["body"]["shape"] == [1]
    received = json.loads(found["body"]["data"][0])
    by_mms = client.post("/predictions/coded", data=b"hello", content_type="application/octet-stream")
    assert received == by_mms.json == {"body": "bytearray"}


def test_rows_are_requests_and_inputs_their_fields(client: FlaskClient) -> None:
    columns = [column("image", "a", "b"), column("options", '{"x": 1}', "{}", content_type="application/json")]
    found = outputs(infer(client, "coded", {"inputs": columns}))
    assert [json.loads(text) for text in found["body"]["data"]] == [{"image": "bytearray", "options": "dict"}] * 2


def test_outputs_that_are_not_text_are_sent_in_base64_or_as_bytes(client: FlaskClient) -> None:
    (body,) = infer(client, "coded", {"inputs": [column("body", "bytes")]}).json["outputs"]
    assert body["parameters"] == {"content_type": "base64"}
    assert base64.b64decode(body["data"][0]) == bytes([255, 0, 254])
    coded = column("body", base64.b64encode(b"bytes").decode(), content_type="base64")
    requested_outputs = [{"name": "body", "parameters": {"binary_data": True}}]
    response = infer(client, "coded", {"inputs": [coded], "outputs": requested_outputs})
    assert response.data.endswith(elements(bytes([255, 0, 254])))


def test_a_refusal_of_the_handler_keeps_its_status(client: FlaskClient) -> None:
    refused = infer(client, "coded", {"inputs": [column("body", "hello", "refuse")]})
    assert (refused.status_code, list(refused.json)) == (422, ["error"])
    failed = infer(client, "coded", {"inputs": [column("body", "raise")]})
    by_mms = client.post("/predictions/coded", data=b"raise", content_type="application/octet-stream")
    assert (failed.status_code, failed.json["error"]) == (by_mms.status_code, by_mms.json["message"])


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ({"inputs": [{"name": "data", "datatype": "FP32", "shape": [1], "data": [1]}]}, 400, "takes bytes and not"),
        ({"inputs": [column("a", "x"), column("b", "x", "y")]}, 400, "different numbers of rows"),
        ({"inputs": [column("a", *"1234")]}, 413, "at most 3"),
        ({"inputs": [column("a", "x")], "outputs": [{"name": "labels"}]}, 400, "'labels' cannot be asked for"),
        ({"inputs": [column("a", "\ud800")]}, 400, "not Unicode"),
    ],
)
def test_unsupported_inputs_are_refused(client: FlaskClient, document: Any, status: int, words: str) -> None:
    response = infer(client, "coded", document)
    assert response.status_code == status
    assert words in response.json["error"]


def test_a_model_without_workers_is_not_ready(client: FlaskClient) -> None:
    scaled = client.put("/models/coded?min_worker=0", base_url="http://localhost:8081")
    assert scaled.status_code == 202
    try:
        response = client.get("/v2/models/coded/ready")
        assert (response.status_code, response.json["ready"]) == (503, False)
        assert client.get("/v2/health/ready").status_code == 503
        assert infer(client, "coded", {"inputs": [column("body", "x")]}).status_code == 503
        (entry,) = client.post("/v2/repository/index").json
        assert entry["state"] == "UNAVAILABLE" and "worker" in entry["reason"]
        assert client.post("/v2/repository/index", json={"ready": True}).json == []
    finally:
        client.put("/models/coded?min_worker=1&synchronous=true", base_url="http://localhost:8081")


def test_the_reason_why_a_model_could_not_be_loaded_is_reported(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    put(tmp_path / "models" / "broken", {"a-symbol.json": "{}", "a-0000.params": "x", "signature.json": "{}"})
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    other = create_app(Settings(shipped_models=False, **folders))
    load_models(other)
    try:
        response = other.test_client().get("/v2/models/broken/ready")
        assert response.status_code == 503
        assert "signature.json" in response.json["reason"]
        assert other.test_client().get("/v2/models/broken").status_code == 503
    finally:
        other.extensions["dimple"].registry.close()
