"""Archives with code of their own that cannot serve: no route reports them as ready, all answers have the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.settings import Settings
from tests.conftest import running_app
from tests.formats.archive.archives import manifest, put, zipped

CAUSE = "the vocabulary is missing"
SERVICE = f"""
def handle(data, context):
    if data is None:
        raise RuntimeError({CAUSE!r})
"""
TORCHSERVE = {
    "runtime": "python",
    "archiverVersion": "0.9.0",
    "model": {"modelName": "densenet", "serializedFile": "densenet.pt", "handler": "image_classifier"},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    work = tmp_path_factory.mktemp("broken")
    files = {"service.py": SERVICE, "MAR-INF/MANIFEST.json": manifest(modelName="coded", handler="service:handle")}
    put(work / "models" / "coded", files)
    zipped(work / "models" / "densenet.mar", {"MAR-INF/MANIFEST.json": json.dumps(TORCHSERVE), "densenet.pt": "x"})
    folders = {f"{name}_dir": work / name for name in ("models", "uploads", "instance")}
    with running_app(Settings(shipped_models=False, default_workers_per_model=1, workers=1, **folders)) as app:
        yield app


def test_no_route_reports_a_broken_model_as_ready(client: FlaskClient) -> None:
    description = client.get("/predict/coded").json
    assert description["state"] == "failed" and CAUSE in description["reason"]
    assert CAUSE in client.get("/v2/models/coded/ready").json["reason"]
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["models"] == [] and CAUSE in answer.json["failed"]["coded"]


@pytest.mark.parametrize("address", ["/predictions/coded", "/invocations?model_name=coded"])
def test_a_prediction_is_refused_with_the_cause(client: FlaskClient, address: str) -> None:
    answer = client.post(address, data=b"x", content_type="application/octet-stream")
    assert answer.status_code == 503
    message = answer.json["message"]
    assert message.startswith("No worker is available to serve request for model: coded. Consider increasing")
    assert CAUSE in message and "Traceback" not in message


def test_an_archive_of_torchserve_is_named(client: FlaskClient) -> None:
    assert "densenet is a TorchServe archive" in client.get("/predict/densenet").json["reason"]
    answer = client.post("/models?url=densenet.mar&model_name=again", base_url="http://localhost:8081")
    assert answer.status_code == 400, answer.json
    assert "densenet is a TorchServe archive" in answer.json["message"]
    assert "torch.onnx.export" in answer.json["message"]
