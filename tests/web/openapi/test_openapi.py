"""Dimple's own document, and its page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from app import create_app
from app.settings import VERSION, Settings

PAGES = ("results", "live", "manage", "teach", "about", "login", "icon", "corrections")
"""Blueprints of pages, which are for people."""
UNDOCUMENTED = ("openapi.docs_file", "openapi.no_api_description")
"""A page's files, and an address at which Multi Model Server refuses everything."""
PORTS = {"inference": "http://localhost:8080", "management": "http://localhost:8081"}


def document(client: FlaskClient, port: str = "inference") -> Any:
    response = client.get("/openapi.json", base_url=PORTS[port])
    assert response.status_code == 200
    return response.json


@pytest.mark.parametrize("port", PORTS)
def test_the_document_is_valid(client: FlaskClient, port: str) -> None:
    assert document(client, port)["openapi"].startswith("3.1")
    validate(document(client, port))
    assert document(client, port)["info"]["version"] == VERSION


def test_the_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    app = create_app(Settings(port=8080, management_port=8080, **folders))
    taken: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        of_a_page = rule.endpoint.partition(".")[0] in PAGES or rule.endpoint.endswith("static")
        if not of_a_page and rule.endpoint not in UNDOCUMENTED and "ignored" not in rule.arguments:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            taken.setdefault(path, set()).update(method.lower() for method in rule.methods or ())
    paths = app.test_client().get("/openapi.json").json["paths"]
    assert set(paths) == set(taken)
    for path, operations in paths.items():
        methods = set(operations) - {"parameters"}
        assert methods and methods <= taken[path], path


def test_each_port_documents_its_own_routes(client: FlaskClient) -> None:
    both = {"/", "/api-description", "/openapi.json", "/docs", "/healthz", "/readyz"}
    inference, management = set(document(client)["paths"]), set(document(client, "management")["paths"])
    assert inference & management == both
    assert management - both == {"/metrics", "/models", "/models/{name}"}
    assert {"/predict/{model}", "/predictions/{model}", "/invocations", "/ping", "/file/"} <= inference


def component(document: Any, reference: dict[str, str]) -> Any:
    for key in reference["$ref"].removeprefix("#/").split("/"):
        document = document[key]
    return document


def test_paths_name_their_parameters(client: FlaskClient) -> None:
    for port in PORTS:
        whole = document(client, port)
        for path, operations in whole["paths"].items():
            named = [component(whole, item)["name"] for item in operations.get("parameters", ())]
            assert named == re.findall(r"{(\w+)}", path)


@pytest.mark.parametrize("port", PORTS)
def test_the_page_uses_only_our_own_files_and_no_inline_script(client: FlaskClient, port: str) -> None:
    page = client.get("/docs", base_url=PORTS[port])
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "own/docs.js", "own/docs.css"):
        assert f'"/docs/{name}"' in page.text
        assert client.get(f"/docs/{name}", base_url=PORTS[port], buffered=True).status_code == 200
    assert not re.search(r'(src|action)="http|<link[^>]*"http', page.text)
    assert "<script>" not in page.text


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2f__init__.py", "swagger-ui.js"])
def test_no_other_file_of_the_bundle_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404


def test_both_paths_of_a_versioned_route_have_their_own_operation_ids(client: FlaskClient) -> None:
    paths = document(client)["paths"]
    plain, versioned = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"
    assert paths[plain]["post"]["operationId"] == "oip_infer_post"
    assert paths[versioned]["post"]["operationId"] == "oip_infer_version_post"


def test_the_example_request_for_inference_gets_the_example_response(client: FlaskClient) -> None:
    whole = document(client)
    post = whole["paths"]["/v2/models/{model}/infer"]["post"]
    body, answer = component(whole, post["requestBody"]), component(whole, post["responses"]["200"])
    request = body["content"]["application/json"]["examples"]["picture"]["value"]
    example = answer["content"]["application/json"]["examples"]["picture"]["value"]
    response = client.post("/v2/models/dogcat/infer", json=request)
    assert response.status_code == 200, response.text

    def without_data(answer: Any) -> Any:
        return {**answer, "outputs": [{**item, "data": len(item["data"])} for item in answer["outputs"]]}

    assert without_data(response.json) == without_data(example)


def test_the_readiness_without_its_cluster_matches_the_schema(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.extensions["dimple"].registry, "cluster_error", lambda: "its head does not answer")
    response = client.get("/readyz")
    assert (response.status_code, response.json["cluster"]) == (503, "its head does not answer")
    jsonschema.validate(response.json, document(client)["components"]["schemas"]["Readiness"])
