"""The answers of a model's own code, in a real process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.settings import Settings
from tests.conftest import running_app
from tests.formats.archive.archives import manifest, put

SERVICE = """
import json
def handle(data, context):
    if data is None:
        return None
    reply = json.loads(data[0]["body"])
    for name, value in reply.get("headers", {}).items():
        context.set_response_header(0, name, value)
    if "phrase" in reply:
        context.set_response_status(200, reply["phrase"], 0)
    return [float("nan") if reply.get("nan") else "said"]
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    work = tmp_path_factory.mktemp("handled")
    files = {"service.py": SERVICE, "MAR-INF/MANIFEST.json": manifest(modelName="coded", handler="service:handle")}
    put(work / "models" / "coded", files)
    folders = {f"{name}_dir": work / name for name in ("models", "uploads", "instance")}
    settings = Settings(shipped_models=False, default_workers_per_model=1, decode_input_request=False, **folders)
    with running_app(settings) as app:
        yield app


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"headers": {"X-Name": "\N{GREEK SMALL LETTER ALPHA}"}}, "X-Name"),
        ({"headers": {"X Name": "a"}}, "X Name"),
        ({"headers": {"X-N\u00e9": "a"}}, "X-N\u00e9"),
        ({"headers": {"X-Null": "a\0b"}}, "X-Null"),
        ({"headers": {"Content-Type": "text/\N{GREEK SMALL LETTER ALPHA}"}}, "Content-Type"),
        ({"phrase": "\N{GREEK SMALL LETTER ALPHA}"}, "status 200"),
    ],
)
def test_an_invalid_http_header_is_an_error_of_the_handler(client: FlaskClient, command: object, words: str) -> None:
    response = client.post("/predictions/coded", data=json.dumps(command))
    assert response.status_code == 502
    assert "handler of the model coded" in response.json["message"]
    assert words in response.json["message"]


def test_other_headers_are_sent_unchanged(client: FlaskClient) -> None:
    response = client.post("/predictions/coded", data=json.dumps({"headers": {"X-Name": "caf\u00e9", "X-Tab": "a b"}}))
    assert (response.status_code, response.data) == (200, b"said")
    assert (response.headers["X-Name"], response.headers["X-Tab"]) == ("caf\u00e9", "a b")


def test_a_response_with_nan_is_not_sent_as_json(client: FlaskClient) -> None:
    response = client.post("/predictions/coded", data=json.dumps({"nan": True}))
    assert (response.data, response.mimetype) == (b"NaN", "text/plain")
