"""The routes of Multi Model Server; expected values are those of its own tests, documents and tutorials."""

from __future__ import annotations

import io
import json
import uuid

import pytest
from flask.testing import FlaskClient

from tests.pictures import astronaut, encode, face_crop

FACE = encode(face_crop())


def names(answer: list[dict[str, object]]) -> list[object]:
    return [item["class"] for item in answer]


@pytest.mark.parametrize(
    "path", ["/predictions/smile", "/predictions/smile/1.0", "/models/smile/invoke", "/smile/predict"]
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_body_is_the_picture_and_the_answer_a_bare_list(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method, data=FACE)
    assert response.status_code == 200
    answer = json.loads(response.data)
    assert names(answer) == ["smiling", "non-smiling"]
    assert sum(item["probability"] for item in answer) == pytest.approx(1, abs=1e-5)
    assert list(answer[0]) == ["probability", "class"]
    assert response.data == json.dumps(answer, indent=2).encode()


@pytest.mark.parametrize("field", ["/conv2d_1_input1", "body", "data", "anything"])
def test_the_form_field_of_the_picture_is_the_input_name_or_a_usual_one(client: FlaskClient, field: str) -> None:
    response = client.post("/smile/predict", data={field: (io.BytesIO(FACE), "test-1.jpg")})
    assert names(json.loads(response.data)) == ["smiling", "non-smiling"]


def test_the_input_name_takes_precedence_over_other_field_names(client: FlaskClient) -> None:
    parts = {"data": (io.BytesIO(b"no picture"), "a.jpg"), "/conv2d_1_input1": (io.BytesIO(FACE), "b.jpg")}
    assert client.post("/predictions/smile", data=parts).status_code == 200


def test_the_answer_equals_that_of_our_own_route(client: FlaskClient) -> None:
    picture = encode(astronaut())
    own = client.post("/predict/smile", data=picture).json["predictions"]
    assert json.loads(client.post("/predictions/smile", data=picture).data) == [
        {"probability": item["probability"], "class": item["class"]} for item in own
    ]


def test_invocations_take_the_model_from_the_query_or_the_form(client: FlaskClient) -> None:
    assert client.post("/invocations?model_name=smile", data=FACE).status_code == 200
    parts = {"model_name": "smile", "data": (io.BytesIO(FACE), "a.jpg")}
    assert client.post("/invocations", data=parts).status_code == 200
    refused = client.post("/invocations", data=FACE)
    assert (refused.status_code, refused.json["type"]) == (400, "BadRequestException")
    assert "model_name" in refused.json["message"]


def test_ping_answers_healthy_with_a_new_request_id_each_time(client: FlaskClient) -> None:
    first, second = client.get("/ping"), client.get("/ping")
    assert first.data == b'{\n  "status": "Healthy"\n}\n'
    ids = {uuid.UUID(response.headers["x-request-id"]) for response in (first, second)}
    assert len(ids) == 2
    assert first.headers["Cache-Control"] == "no-cache; no-store, must-revalidate, private"


def test_an_unknown_model_gets_the_error_of_mms(client: FlaskClient) -> None:
    response = client.post("/predictions/InvalidModel", data=FACE)
    assert response.status_code == 404
    assert (
        response.data
        == json.dumps(
            {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: InvalidModel"}, indent=2
        ).encode()
        + b"\n"
    )
    assert uuid.UUID(response.headers["x-request-id"])


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_files_that_are_not_pictures_are_a_client_error_with_the_reason(client: FlaskClient, data: bytes) -> None:
    response = client.post("/predictions/smile", data=data)
    assert response.status_code in (400, 415)
    assert response.json["type"] == "BadRequestException"
    assert "picture" in response.json["message"]


def test_a_body_that_is_too_long_is_refused(client: FlaskClient) -> None:
    response = client.post("/predictions/smile", data=b"x" * (5 * 2**20))
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/predictions", "/predictions/", "/invocations/x", "/models/smile/other", "/models"])
def test_unknown_routes_get_the_error_of_mms(client: FlaskClient, path: str) -> None:
    response = client.post(path, data=FACE, headers={"Accept": "text/html"})
    assert (response.status_code, response.json) == (
        404,
        {
            "code": 404,
            "type": "ResourceNotFoundException",
            "message": "Requested resource is not found, please refer to API document.",
        },
    )
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/ping/", "/ping/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_ping_answers_on_longer_paths_and_to_every_method(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method)
    assert (response.status_code, response.json) == (200, {"status": "Healthy"})


def test_an_empty_model_name_is_not_found(client: FlaskClient) -> None:
    response = client.post("/invocations?model_name=", data=FACE)
    assert (response.status_code, response.json["message"]) == (404, "Model not found: ")


def test_a_form_without_a_boundary_is_read_as_a_raw_body_as_by_mms(client: FlaskClient) -> None:
    response = client.post("/predictions/smile", data=FACE, content_type="multipart/form-data")
    assert response.status_code == 200
    assert response.json == client.post("/predictions/smile", data=FACE).json
