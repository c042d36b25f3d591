"""Multi Model Server's documents; expected is the structure of those of MMS 1.1.11, without its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV30SpecValidator

from app import create_app
from app.settings import Settings

STRUCTURE = json.loads(Path(__file__).with_name("mms_structure.json").read_text())
"""By port, then by method and path. A response that is an error is the word ``error``."""
PORTS = {"inference": "http://localhost:8080", "management": "http://localhost:8081"}
ERROR = {
    "type": "object",
    "required": ["code", "type", "message"],
    "properties": {"code": {"type": "integer"}, "type": {"type": "string"}, "message": {"type": "string"}},
}


def documents(client: FlaskClient, path: str = "/", method: str = "OPTIONS") -> dict[str, Any]:
    found = {}
    for api, base in PORTS.items():
        response = client.open(path, method=method, base_url=base)
        assert (response.status_code, response.mimetype) == (200, "application/json")
        assert response.data == json.dumps(response.json, indent=2).encode() + b"\n"
        assert response.headers["x-request-id"]
        found[api] = response.json
    return found


def wordless(document: Any) -> Any:
    """Return a document without its descriptions."""
    if isinstance(document, list):
        return [wordless(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        key: wordless(value) for key, value in document.items() if key != "description" or not isinstance(value, str)
    }


def structure(document: Any) -> dict[str, Any]:
    """Return the operations of a document, as STRUCTURE has them."""
    return {
        f"{method} {path}": {
            "operationId": operation["operationId"],
            "deprecated": operation.get("deprecated", False),
            "parameters": [[p["name"], p["in"], p["required"], p["schema"]] for p in operation["parameters"]],
            "requestBody": operation.get("requestBody"),
            "responses": {
                code: "error" if response["content"] == {"application/json": {"schema": ERROR}} else response["content"]
                for code, response in operation["responses"].items()
            },
        }
        for path, operations in wordless(document)["paths"].items()
        for method, operation in operations.items()
    }


def put_right(api: str, operations: dict[str, Any]) -> dict[str, Any]:
    """Correct MMS's structure in the parts that are wrong about its own server."""
    numbers = {"integer": int, "boolean": lambda text: text == "true"}
    for operation in operations.values():
        for _, _, _, schema in operation["parameters"]:
            if "default" in schema:
                schema["default"] = numbers[schema["type"]](schema["default"])
    if api == "inference":
        operations["post /models/{model_name}/invoke"]["parameters"][0][1:3] = ["path", True]
    else:
        register = operations["post /models"]["parameters"]
        by_name = {parameter[0]: parameter for parameter in register}
        by_name["model_url"][2] = False
        by_name["synchronous"][3]["default"] = True
        by_name["runtime"][3]["enum"] = ["python", "python2", "python3"]
        register.insert(0, ["url", "query", True, {"type": "string"}])
    return operations


@pytest.mark.parametrize("api", ["inference", "management"])
def test_the_document_of_each_port_has_the_structure_of_mms(client: FlaskClient, api: str) -> None:
    document = documents(client)[api]
    assert list(document) == ["openapi", "info", "paths"]
    assert (document["openapi"], document["info"]["title"]) == ("3.0.1", "Model Server APIs")
    expected = put_right(api, json.loads(json.dumps(STRUCTURE[api])))
    found = structure(document)
    assert list(found) == list(expected)
    assert found == expected


def test_every_part_has_a_description(client: FlaskClient) -> None:
    for document in documents(client).values():
        for operations in document["paths"].values():
            for operation in operations.values():
                parts = [*operation["parameters"], *operation["responses"].values()]
                assert all(part["description"] for part in parts)


def test_the_documents_are_valid_except_for_duplicate_names_of_mms(client: FlaskClient) -> None:
    for document in documents(client).values():
        problems = [str(problem) for problem in OpenAPIV30SpecValidator(document).iter_errors()]
        assert all("is not unique" in problem for problem in problems)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_the_older_route_serves_the_same_document_by_any_method(client: FlaskClient, method: str) -> None:
    assert documents(client, "/api-description", method) == documents(client)
    assert documents(client, "/api-description/", method) == documents(client)


@pytest.mark.parametrize(
    ("method", "path", "ports"),
    [
        ("GET", "/", ["management"]),
        ("POST", "/", ["management"]),
        ("GET", "/api-description/x", ["inference", "management"]),
        ("OPTIONS", "/models", ["management"]),
    ],
)
def test_routes_without_a_document_get_the_wrong_method_error_of_mms(
    client: FlaskClient, method: str, path: str, ports: list[str]
) -> None:
    for port in ports:
        response = client.open(path, method=method, base_url=PORTS[port])
        assert (response.status_code, response.json) == (
            405,
            {
                "code": 405,
                "type": "MethodNotAllowedException",
                "message": "Requested method is not allowed, please refer to API document.",
            },
        )
        assert response.headers["x-request-id"]


def test_the_page_is_still_served_at_the_inference_port(client: FlaskClient) -> None:
    assert client.get("/").mimetype == "text/html"


@pytest.mark.parametrize(
    "path", ["/predictions/smile", "/models/smile/invoke", "/smile/predict", "/invocations?model_name=smile"]
)
def test_every_prediction_route_of_a_model_describes_it(client: FlaskClient, path: str) -> None:
    response = client.options(path)
    assert response.status_code == 200
    assert response.json["info"] == {"title": "RESTful API for: smile", "version": "1.0.0"}
    (operation,) = response.json["paths"]["/prediction/smile"].values()
    assert list(response.json["paths"]["/prediction/smile"]) == ["post"]
    assert (operation["operationId"], operation["parameters"]) == ("smile", [])
    assert list(operation["responses"]) == ["200", "500"]
    assert wordless(operation["responses"]["500"]) == {"content": {"application/json": {"schema": ERROR}}}
    assert OpenAPIV30SpecValidator(response.json).is_valid()


def test_an_unknown_model_has_no_document(client: FlaskClient) -> None:
    response = client.options("/predictions/InvalidModel")
    assert (response.status_code, response.json["message"]) == (404, "Model not found: InvalidModel")
    refused = client.options("/invocations")
    assert (refused.status_code, refused.json["message"]) == (400, "Parameter model_name is required.")


@pytest.fixture
def one_port(tmp_path: Path) -> Flask:
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    return create_app(Settings(port=8080, management_port=8080, **folders))


def test_a_single_port_has_the_document_of_both_apis(one_port: Flask) -> None:
    paths = list(one_port.test_client().options("/").json["paths"])
    assert paths == [
        "/",
        "/{model_name}/predict",
        "/ping",
        "/predictions/{model_name}",
        "/api-description",
        "/invocations",
        "/models/{model_name}/invoke",
        "/models",
        "/models/{model_name}",
    ]


def test_a_single_port_answers_for_both_apis(one_port: Flask) -> None:
    client = one_port.test_client()
    assert client.get("/models").json == {"models": []}
    assert client.get("/ping").json == {"status": "Healthy"}
    assert client.options("/models").json["type"] == "MethodNotAllowedException"
    assert client.get("/predictions").json["type"] == "ResourceNotFoundException"
