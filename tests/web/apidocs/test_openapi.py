"""Dimple's own document, and its page."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from app.web.apidocs.openapi import described_rules
from app.web.apidocs.operations import OPERATIONS
from app.web.apidocs.schemas import SCHEMAS

PORTS = {"inference": "http://localhost:8080", "management": "http://localhost:8081"}


def document(client: FlaskClient, port: str = "inference") -> Any:
    response = client.get("/openapi.json", base_url=PORTS[port])
    assert response.status_code == 200
    return response.json


@pytest.mark.parametrize("port", PORTS)
def test_the_document_is_valid(client: FlaskClient, port: str) -> None:
    assert document(client, port)["openapi"].startswith("3.1")
    validate(document(client, port))


def test_every_route_is_declared_and_nothing_else(app: Flask) -> None:
    assert {rule.endpoint for rule in described_rules(app)} == set(OPERATIONS)


def test_every_method_that_is_told_is_taken(app: Flask) -> None:
    for endpoint, operations in OPERATIONS.items():
        taken = {method for rule in app.url_map.iter_rules(endpoint) for method in rule.methods or ()}
        assert {method.upper() for method in operations} <= taken


def test_each_port_tells_what_answers_there(client: FlaskClient) -> None:
    both = {"/", "/api-description", "/openapi.json", "/docs", "/healthz", "/readyz"}
    inference, management = set(document(client)["paths"]), set(document(client, "management")["paths"])
    assert inference & management == both
    assert management - both == {"/metrics", "/models", "/models/{name}"}
    assert {"/predict/{model}", "/predictions/{model}", "/invocations", "/ping", "/file/"} <= inference


def test_paths_name_their_parameters(client: FlaskClient) -> None:
    post = document(client)["paths"]["/predict/{model}"]["post"]
    assert [(one["name"], one["in"], one["required"]) for one in post["parameters"]] == [
        ("model", "path", True),
        ("top", "query", False),
    ]


@pytest.mark.parametrize("port", PORTS)
def test_the_page_is_made_of_our_own_files_and_runs_no_script_inside_it(client: FlaskClient, port: str) -> None:
    page = client.get("/docs", base_url=PORTS[port])
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "own/docs.js", "favicon-32x32.png"):
        assert f'"/docs/{name}"' in page.text
        assert client.get(f"/docs/{name}", base_url=PORTS[port], buffered=True).status_code == 200
    assert "http" not in page.text
    assert "<script>" not in page.text


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2f__init__.py", "swagger-ui.js"])
def test_no_other_file_of_the_bundle_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404


def test_both_addresses_of_a_versioned_route_are_told_with_names_of_their_own(client: FlaskClient) -> None:
    paths = document(client)["paths"]
    plain, versioned = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"
    assert paths[plain]["post"]["operationId"] == "oip_infer_post"
    assert paths[versioned]["post"]["operationId"] == "oip_infer_version_post"
    assert [one["name"] for one in paths[versioned]["post"]["parameters"]][:2] == ["model", "version"]


def test_the_example_of_an_inference_request_is_answered_as_the_example_says(client: FlaskClient) -> None:
    post = document(client)["paths"]["/v2/models/{model}/infer"]["post"]
    request = post["requestBody"]["content"]["application/json"]["examples"]["picture"]["value"]
    told = post["responses"]["200"]["content"]["application/json"]["examples"]["picture"]["value"]
    response = client.post("/v2/models/dogcat/infer", json=request)
    assert response.status_code == 200, response.text

    def without_data(answer: Any) -> Any:
        return {**answer, "outputs": [{**one, "data": len(one["data"])} for one in answer["outputs"]]}

    assert without_data(response.json) == without_data(told)


def test_the_readiness_of_a_server_whose_cluster_is_away_fits_its_schema(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.extensions["dimple"].registry, "cluster_error", lambda: "its head does not answer")
    response = client.get("/readyz")
    assert (response.status_code, response.json["cluster"]) == (503, "its head does not answer")
    jsonschema.validate(response.json, SCHEMAS["Readiness"])
