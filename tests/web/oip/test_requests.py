"""Requests written by hand: parts that the protocol makes optional, and requests that must be refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.errors import QueueFull
from app.web.oip.requests import NUMBERS
from tests.pictures import astronaut, encode, face_crop, plain
from tests.web.oip.asking import LENGTH, elements, infer, outputs, picture, smile_tensor

FACE = encode(face_crop(), "PNG")
NAME = "/conv2d_1_input1"
SHAPE = [1, 1, 64, 64]
ZEROS = {"name": NAME, "datatype": "FP32", "shape": SHAPE, "data": [0] * 4096}


def refusal(client: FlaskClient, document: Any, binary: bytes = b"", status: int = 400, **headers: str) -> str:
    """Return why a request is refused."""
    response = infer(client, "smile", document, binary, **headers)
    assert response.status_code == status, response.text
    assert response.json
    assert list(response.json) == ["error"]
    return str(response.json["error"])


def one(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{**ZEROS, **changed}]}


def test_health_and_metadata_follow_the_protocol(client: FlaskClient) -> None:
    assert set(client.get("/v2").json) == {"name", "version", "extensions"}
    assert client.get("/v2/").json == client.get("/v2").json
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"live": True, "ready": True}
    assert client.get("/v2/models/smile/versions/1.0/ready").json == {"name": "smile", "ready": True}
    assert client.get("/v2/models/smile").json["platform"].startswith("dimple_")


def test_a_response_has_the_request_id_and_names_the_model(client: FlaskClient) -> None:
    response = infer(client, "smile", {"id": "4 2", "inputs": [ZEROS]})
    assert response.mimetype == "application/json"
    assert {**response.json, "outputs": 0} == {"model_name": "smile", "model_version": "1.0", "id": "4 2", "outputs": 0}
    (softmax,) = response.json["outputs"]
    assert (softmax["name"], softmax["datatype"], softmax["shape"]) == ("softmax", "FP32", [1, 2])
    assert sum(softmax["data"]) == pytest.approx(1, abs=1e-5)
    assert "id" not in infer(client, "smile", {"inputs": [ZEROS]}).json


def test_data_may_be_flat_or_nested(client: FlaskClient) -> None:
    values = np.round(smile_tensor(face_crop()), 3)
    flat = infer(client, "smile", one(data=values.reshape(-1).tolist()))
    nested = infer(client, "smile", one(data=values.tolist()))
    assert outputs(flat) == outputs(nested)


def test_a_response_may_mix_binary_and_json_outputs(client: FlaskClient) -> None:
    requested_outputs = [
        {"name": "labels", "parameters": {"binary_data": True}},
        {"name": "softmax"},
        {"name": "scores", "parameters": {"binary_data": True}},
    ]
    response = infer(client, "smile", {"inputs": [picture(FACE)], "outputs": requested_outputs})
    assert response.mimetype == "application/octet-stream"
    length = int(response.headers[LENGTH])
    document, binary = json.loads(response.data[:length]), response.data[length:]
    labels, softmax, scores = document["outputs"]
    assert [part.get("parameters") for part in (labels, softmax, scores)] == [
        {"binary_data_size": 4 + 7 + 4 + 11},
        None,
        {"binary_data_size": 8},
    ]
    assert binary[:26] == elements(b"smiling", b"non-smiling")
    assert sorted(softmax["data"], reverse=True) == np.frombuffer(binary[26:], "<f4").tolist()


def test_inputs_may_be_binary_while_outputs_are_json(client: FlaskClient) -> None:
    raw = elements(FACE, FACE)
    sent = {"name": "image", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(raw)}}
    found = outputs(infer(client, "smile", {"inputs": [sent]}, raw))
    assert found["labels"]["data"] == ["smiling", "non-smiling"] * 2
    assert found["scores"]["shape"] == [2, 2]


def test_a_body_without_json_is_read_as_one_picture(client: FlaskClient) -> None:
    headers = {LENGTH: "0", "Content-Type": "application/octet-stream"}
    found = outputs(client.post("/v2/models/smile/infer", data=FACE, headers=headers))
    assert found == outputs(infer(client, "smile", {"inputs": [picture(FACE)]}))


def test_more_or_fewer_classes_can_be_requested(client: FlaskClient) -> None:
    request = {"inputs": [picture(FACE)], "parameters": {"top": 1}}
    assert outputs(infer(client, "smile", request))["labels"]["data"] == ["smiling"]
    request["parameters"] = {"top": 99}
    assert outputs(infer(client, "smile", request))["labels"]["shape"] == [1, 2]


def test_the_single_output_of_a_sigmoid_has_no_label(client: FlaskClient) -> None:
    requested_outputs = [{"name": name, "parameters": {"classification": 9}} for name in ("sigmoid", "scores")]
    found = outputs(infer(client, "dogcat", {"inputs": [picture(encode(plain()))], "outputs": requested_outputs}))
    (raw,), classes = found["sigmoid"]["data"], dict(text.split(":", 2)[1:] for text in found["scores"]["data"])
    assert raw.split(":")[1:] == ["0"]
    assert classes == {"0": "cat", "1": "dog"}


def test_the_largest_of_several_faces_is_classified(client: FlaskClient) -> None:
    portrait = astronaut()
    two = portrait.copy()
    two.paste(portrait.crop((150, 40, 300, 190)).resize((80, 80)), (420, 420))
    found = outputs(infer(client, "smile", {"inputs": [picture(encode(two, "PNG"))]}))
    own = client.post("/predict/smile", data=encode(two, "PNG")).json
    assert len(own["faces"]) == 2
    assert found["scores"]["data"] == [best["probability"] for best in own["predictions"]]


def test_unknown_parameters_are_ignored(client: FlaskClient) -> None:
    # Triton's client sends these to models that are stateful, or scheduled
    parameters = {"sequence_id": 3, "sequence_start": True, "priority": 1, "timeout": 5}
    assert infer(client, "smile", {"inputs": [ZEROS], "parameters": parameters}).status_code == 200


BAD = [
    (b"", "cannot be read as JSON"),
    (b"\xff\xd8\xff", "Inference-Header-Content-Length: 0"),
    (b"[" * 100_000, "cannot be read as JSON"),
    (b'{"inputs": [NaN]}', "NaN"),
    ([], "must be a JSON object"),
    ({}, "inputs='None'"),
    ({"inputs": []}, "at least one tensor"),
    ({"inputs": [3]}, "inputs[0]='3'"),
    ({"inputs": [ZEROS], "id": 3}, "id='3'"),
    ({"inputs": [ZEROS], "parameters": []}, "parameters='[]'"),
    ({"inputs": [ZEROS], "parameters": {"top": 0}}, "top='0'"),
    ({"inputs": [ZEROS], "parameters": {"top": True}}, "top='True'"),
    ({"inputs": [ZEROS], "parameters": {"binary_data_output": 1}}, "binary_data_output='1'"),
    ({"inputs": [ZEROS, ZEROS]}, "takes one input"),
    (one(name="input"), "It has no input 'input' of FP32"),
    (one(name="image"), "It has no input 'image' of FP32"),
    (one(name=""), "inputs[0].name=''"),
    (one(datatype="FP8"), "inputs[0].datatype='FP8'"),
    (one(datatype=["FP32"]), "datatype"),
    (one(shape=4096), "inputs[0].shape='4096'"),
    (one(shape=[]), "inputs[0].shape='[]'"),
    (one(shape=[1, -1, 64, 64]), "[1, -1, 64, 64]"),
    (one(shape=[1, 64, 64, 1]), "takes [-1, 1, 64, 64]"),
    (one(shape=[0, 1, 64, 64], data=[]), "at least one row"),
    (one(shape=[4096]), "takes [-1, 1, 64, 64]"),
    (one(data=[0] * 4095), "4095 values"),
    (one(data=[[0] * 4096]), "nested as [1, 4096]"),
    (one(data=[[0], [0, 0]]), "2 values"),
    (one(data="zeros"), "nested as []"),
    (one(data=None), "nested as []"),
    (one(data=["0"] * 4096), "not all its data are"),
    (one(data=[None] * 4096), "not all its data are"),
    (one(data=[True] * 4096), "not all its data are"),
    (one(datatype="UINT8", data=[0.5] * 4096), "not all its data are"),
    (one(datatype="UINT8", data=[256] * 4096), "0 to 255"),
    (one(datatype="INT8", data=[-129] * 4096), "-128 to 127"),
    (one(datatype="UINT64", data=[-1] * 4096), "0 to 18446744073709551615"),
    (one(datatype="INT64", data=[2**70] * 4096), "beyond all numbers"),
    (one(datatype="INT64", data=[2**24 + 1] * 4096), "16777217"),
    (one(datatype="FP64", data=[0.1] * 4096), "0.1"),
    (one(data=[1e300] * 4096), "inf"),
    (one(datatype="FP16", data=[70_000] * 4096), "inf"),
    ({"inputs": [{key: value for key, value in ZEROS.items() if key != "data"}]}, "neither data nor"),
    (one(parameters={"binary_data_size": 4}), "both data and"),
    ({"inputs": [ZEROS], "outputs": "softmax"}, "outputs='softmax'"),
    ({"inputs": [ZEROS], "outputs": [{"name": "prob"}]}, "It has softmax, labels, scores"),
    ({"inputs": [ZEROS], "outputs": [{"name": "softmax"}] * 2}, "asked for once"),
    (
        {"inputs": [ZEROS], "outputs": [{"name": "softmax", "parameters": {"classification": -1}}]},
        "classification='-1'",
    ),
    ({"inputs": [ZEROS], "outputs": [{"name": "softmax", "parameters": {"binary_data": "no"}}]}, "binary_data='no'"),
    ({"inputs": [{**picture(FACE), "shape": [2]}]}, "1 values"),
    ({"inputs": [{**picture(FACE), "shape": [1, 1, 1]}]}, "in the shape [N]"),
    ({"inputs": [{**picture(FACE), "data": ["<svg>"]}]}, "not base64"),
    ({"inputs": [{**picture(FACE), "data": [5]}]}, "must be strings"),
    ({"inputs": [{**picture(FACE), "name": "photo"}]}, "It has no input 'photo' of BYTES"),
    ({"inputs": [picture(FACE, b"")]}, "Picture 1 of 0-1: No file was chosen"),
]


@pytest.mark.parametrize(("document", "words"), BAD)
def test_invalid_requests_are_refused_with_the_value(client: FlaskClient, document: Any, words: str) -> None:
    assert words in refusal(client, document)


def test_the_number_of_inputs_and_outputs_is_limited(client: FlaskClient) -> None:
    names = [{"name": f"output{number}"} for number in range(4)]
    assert "takes at most 3" in refusal(client, {"inputs": [ZEROS], "outputs": names})
    assert "values besides" in refusal(client, {"inputs": [ZEROS], "outputs": [{"name": "softmax"}] * 60_000})
    assert "takes one input" in refusal(client, {"inputs": [{**ZEROS, "data": [0]}] * 500})


def test_a_shape_with_thousands_of_digits_is_refused(client: FlaskClient) -> None:
    refusal(client, {"inputs": [{**picture(FACE), "shape": [10**4000, 1]}]})


def test_a_single_picture_may_be_given_without_a_list(client: FlaskClient) -> None:
    request = {"inputs": [picture(FACE)]}
    expected = outputs(infer(client, "smile", request))
    request["inputs"][0]["data"] = request["inputs"][0]["data"][0]
    assert outputs(infer(client, "smile", request)) == expected


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("datatype", "value"), [("FP32", 0.25), ("UINT8", 255), ("INT64", -3), ("FP64", 0.5)])
def test_a_long_json_list_gives_the_same_outputs_as_binary_data(
    client: FlaskClient, datatype: str, value: float, nested: bool
) -> None:
    values = np.full((4, 1, 64, 64), value, NUMBERS[datatype])
    sent = {**ZEROS, "datatype": datatype, "shape": list(values.shape)}
    raw = {**sent, "parameters": {"binary_data_size": values.nbytes}}
    del raw["data"]
    text = {**sent, "data": (values if nested else values.reshape(-1)).tolist()}
    assert outputs(infer(client, "smile", {"inputs": [text]})) == outputs(
        infer(client, "smile", {"inputs": [raw]}, values.tobytes())
    )


def test_invalid_and_too_many_pictures_get_the_usual_status(client: FlaskClient) -> None:
    assert "Picture 1 of 0-1: This file cannot be read as a picture" in refusal(
        client, {"inputs": [picture(FACE, b"GIF89a")]}, status=415
    )
    assert "5 pictures" in refusal(client, {"inputs": [picture(*[FACE] * 5)]}, status=413)
    rows = {**ZEROS, "shape": [5, *SHAPE[1:]], "data": [0] * 4096 * 5}
    assert "at most 4" in refusal(client, {"inputs": [rows]}, status=413)


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "9" * 30, "999"])
def test_a_json_length_beyond_the_body_is_refused(client: FlaskClient, length: str) -> None:
    assert f"{LENGTH}='{length}'" in refusal(client, {"inputs": [ZEROS]} | {"inputs": []}, **{LENGTH: length})


def test_binary_requests_truncated_anywhere_are_refused(client: FlaskClient) -> None:
    raw = elements(FACE[:40], b"", FACE[:3])
    sent = {"name": "image", "datatype": "BYTES", "shape": [3], "parameters": {"binary_data_size": len(raw)}}
    for end in range(1, len(raw)):
        refusal(client, {"inputs": [sent]}, raw[:end])
        cut = {**sent, "parameters": {"binary_data_size": end}}
        assert "element should end" in refusal(client, {"inputs": [cut]}, raw[:end]) or end in (44, 48)
    assert "tell of" in refusal(client, {"inputs": [sent]}, raw + b"x")


def test_the_size_of_binary_data_must_match_the_shape(client: FlaskClient) -> None:
    sent = {key: value for key, value in ZEROS.items() if key != "data"}
    for size in (4, 4096, 4096 * 4 - 1, 4096 * 4 + 4):
        document = {"inputs": [{**sent, "parameters": {"binary_data_size": size}}]}
        assert f"{size} bytes" in refusal(client, document, bytes(size))
    for size in (-1, "4", 10**9):
        document = {"inputs": [{**sent, "parameters": {"binary_data_size": size}}]}
        assert f"binary_data_size='{size}'" in refusal(client, document, bytes(4))
    truths = {**sent, "datatype": "BOOL", "parameters": {"binary_data_size": 4096}}
    assert "other than 0 and 1" in refusal(client, {"inputs": [truths]}, b"\2" * 4096)


def test_compressed_bodies_are_inflated_only_up_to_the_limit(client: FlaskClient) -> None:
    document = json.dumps({"inputs": [ZEROS]}).encode()
    for name, packed in (("gzip", gzip.compress(document)), ("deflate", zlib.compress(document))):
        assert infer(client, "smile", packed, **{"Content-Encoding": name}).status_code == 200
        assert "not one whole" in refusal(client, packed[:-5], **{"Content-Encoding": name})
        assert "not one whole" in refusal(client, packed + b"x", **{"Content-Encoding": name})
        assert "cannot be inflated" in refusal(client, document, **{"Content-Encoding": name})
    bomb = gzip.compress(bytes(64 * 2**20))
    assert "4,194,304 bytes" in refusal(client, bomb, status=413, **{"Content-Encoding": "gzip"})
    assert "Content-Encoding='br'" in refusal(client, document, **{"Content-Encoding": "br"})


def test_long_responses_are_compressed_if_the_client_accepts_it(client: FlaskClient) -> None:
    values = {"name": "conv2d_1_input", "datatype": "UINT8", "shape": [4, 3, 150, 150]}
    raw = bytes(4 * 3 * 150 * 150)
    document = {"inputs": [{**values, "parameters": {"binary_data_size": len(raw)}}]}
    short = infer(client, "dogcat", document, raw, **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in short.headers
    long = infer(client, "dogcat", {**document, "id": "x" * 3000}, raw, **{"Accept-Encoding": "gzip"})
    assert long.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(long.data))["outputs"] == short.json["outputs"]


def test_unknown_routes_and_methods_get_errors_in_the_format_of_the_protocol(client: FlaskClient) -> None:
    for method, path, status in (
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/smile/versions/9", 404),
        ("GET", "/v2/models/smile/versions/9/ready", 404),
        ("POST", "/v2/models/smile/versions/9/infer", 404),
        ("GET", "/v2/models/smile/config", 404),
        ("POST", "/v2/repository/models/smile/load", 404),
        ("GET", "/v2/models/smile/infer", 405),
        ("GET", "/v2/repository/index", 405),
    ):
        response = client.open(path, method=method)
        assert (response.status_code, list(response.json)) == (status, ["error"])
        assert ("Allow" in response.headers) == (status == 405)


def test_the_protocol_is_not_served_at_the_management_port(client: FlaskClient) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/models/smile"):
        assert client.get(path, base_url="http://localhost:8081").status_code == 404


def test_a_full_queue_is_reported_at_once_with_retry_after(app: Flask, client: FlaskClient) -> None:
    registry = app.extensions["dimple"].registry
    with contextlib.ExitStack() as inside:
        with contextlib.suppress(QueueFull):
            while True:
                inside.enter_context(registry.acquire("smile"))
        response = infer(client, "smile", {"inputs": [ZEROS]})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert "No worker is available" in response.json["error"]
    assert infer(client, "smile", {"inputs": [ZEROS]}).status_code == 200


def test_the_index_lists_all_models_or_only_ready_ones(client: FlaskClient) -> None:
    everything = client.post("/v2/repository/index").json
    assert {"name": "smile", "version": "1.0", "state": "READY", "reason": ""} in everything
    assert client.post("/v2/repository/index", json={"ready": True}).json == everything
    assert client.post("/v2/repository/index", data=b"{").status_code == 400
