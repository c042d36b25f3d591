"""Tensors at SageMaker's routes; expected values are those of a picture, and those that the formats define."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image
from werkzeug.test import TestResponse

from app.web.errors import mms_error_response
from tests.pictures import encode, face_crop, plain
from tests.web.oip.asking import smile_tensor

PICTURES = [encode(face_crop(), "PNG"), encode(plain(), "PNG")]
ROWS = np.concatenate([smile_tensor(face_crop()), smile_tensor(plain())])
BOTH = ["/invocations?model_name=smile", "/models/smile/invoke"]


def npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def csv(values: NDArray[Any]) -> bytes:
    return "\n".join(",".join(str(value) for value in row.reshape(-1)) for row in values).encode()


def ask(client: FlaskClient, data: Any, kind: str, path: str = BOTH[0], accept: str = "*/*") -> TestResponse:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return client.post(path, data=body, content_type=kind, headers={"Accept": accept})


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("application/x-npy", npy(ROWS)),
        ("application/x-npy", npy(np.asfortranarray(ROWS))),
        ("text/csv", csv(ROWS)),
        ("text/csv; charset=utf-8", b"\xef\xbb\xbf" + csv(ROWS).replace(b"\n", b"\r\n") + b"\r\n"),
        ("application/json", {"instances": ROWS.tolist()}),
        ("application/json", ROWS.tolist()),
        ("application/json", {"instances": ROWS.reshape(2, -1).tolist()}),
        ("application/json", {"instances": [{"b64": base64.b64encode(item).decode()} for item in PICTURES]}),
    ],
)
def test_rows_in_every_format_get_the_answers_of_their_pictures(
    client: FlaskClient, path: str, kind: str, data: Any
) -> None:
    by_picture = [client.post(path, data=item, content_type="image/png").json for item in PICTURES]
    response = ask(client, data, kind, path)
    assert response.status_code == 200, response.text
    assert response.json == by_picture


def test_a_single_row_may_lack_the_batch_axis(client: FlaskClient) -> None:
    expected = client.post(BOTH[0], data=PICTURES[0], content_type="image/png").json
    assert ask(client, npy(ROWS[0]), "application/x-npy").json == [expected]
    assert ask(client, ROWS[0].tolist(), "application/json").json == [expected]


def test_probabilities_are_sent_as_csv_or_npy_if_accepted(client: FlaskClient) -> None:
    answers = ask(client, npy(ROWS), "application/x-npy").json
    probabilities = [{item["class"]: item["probability"] for item in row} for row in answers]
    expected = [[row["non-smiling"], row["smiling"]] for row in probabilities]  # in the order of synset.txt
    response = ask(client, npy(ROWS), "application/x-npy", accept="application/x-npy")
    values = np.load(io.BytesIO(response.data))
    assert (response.mimetype, values.dtype, values.tolist()) == ("application/x-npy", np.float32, expected)
    response = ask(client, csv(ROWS), "text/csv", accept="text/csv")
    assert response.mimetype == "text/csv"
    lines = [[np.float32(text) for text in line.split(",")] for line in response.text.splitlines()]
    assert lines == [[np.float32(value) for value in row] for row in expected]


def test_a_picture_is_recognised_under_any_content_type(client: FlaskClient) -> None:
    expected = client.post(BOTH[0], data=PICTURES[0], content_type="image/png").json
    for kind in ("application/json", "application/x-image", "application/octet-stream"):
        assert ask(client, PICTURES[0], kind).json == expected


@pytest.mark.parametrize("path", ["/predictions/smile", "/smile/predict", *BOTH])
@pytest.mark.parametrize("quote", [quote, quote_plus, str])
def test_a_picture_may_be_base64_in_a_urlencoded_form(client: FlaskClient, path: str, quote: Any) -> None:
    expected = client.post(path, data=PICTURES[0], content_type="image/png").json
    text = base64.b64encode(PICTURES[0]).decode()
    assert "+" in text  # which a client that does not quote it sends, and which then stands for a space
    lines = [f"{text[:number]}\n{text[number:]}" for number in range(1, 5)]
    for sent in (text, text.rstrip("="), f"data:image/png;base64,{text}", *lines):
        response = client.post(path, data=f"data={quote(sent)}", content_type="application/x-www-form-urlencoded")
        assert response.json == expected, response.text


def test_base64_may_be_in_lines(client: FlaskClient) -> None:
    rows = [{"b64": base64.encodebytes(item).decode()} for item in PICTURES]
    assert ask(client, rows, "application/json").json == ask(client, npy(ROWS), "application/x-npy").json


@pytest.mark.parametrize(
    ("kind", "mark"), [("application/json", b"\xef\xbb\xbf"), ("application/octet-stream", b""), ("", b"\n")]
)
def test_json_may_have_a_byte_order_mark_or_the_type_of_bytes(client: FlaskClient, kind: str, mark: bytes) -> None:
    body = mark + json.dumps({"instances": ROWS.tolist()}).encode()
    assert ask(client, body, kind).json == ask(client, npy(ROWS), "application/x-npy").json


def test_parameters_of_the_accept_header_are_ignored(client: FlaskClient) -> None:
    for accept in ("text/csv; charset=utf-8", "text/csv;q=0.5, image/png", "text/csv;header=present"):
        assert ask(client, npy(ROWS), "application/x-npy", accept=accept).mimetype == "text/csv"


def header(shape: str, kind: str = "<f4") -> bytes:
    """Return a .npy file of version 1 with the given header, and four bytes of data (format: NEP 1)."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(4)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("application/x-npy", b"", "cannot be read as .npy"),
        ("application/x-npy", PICTURES[0], "cannot be read as .npy"),
        ("application/x-npy", npy(ROWS)[:-1], "are not an array"),
        ("application/x-npy", header("(10000000, 10000000)"), "are not an array"),
        ("application/x-npy", header("(1,)", "|O"), "type object"),
        ("application/x-npy", npy(np.array(["text"])), "type <U4"),
        ("application/x-npy", npy(np.zeros((1, 3, 64, 64))), "takes [-1, 1, 64, 64]"),
        ("application/x-npy", npy(np.float32(1)), "takes [-1, 1, 64, 64]"),
        ("application/x-npy", npy(np.full((1, 1, 64, 64), np.nan)), "nan"),
        ("text/csv", b"", "takes [-1, 1, 64, 64]"),
        ("text/csv", b"1,2\n3", "cannot be read as CSV"),
        ("text/csv", b"a,b", "could not convert string to float: 'a'"),
        ("text/csv", b"1,2,3", "takes [-1, 1, 64, 64]"),
        ("application/json", b"[", "cannot be read as JSON"),
        ("application/json", b"[" * 100_000, "cannot be read as JSON"),
        ("application/json", b"[[NaN]]", "NaN"),
        ("application/json", {"instances": []}, "at least one row"),
        ("application/json", {"instance": [1]}, "at least one row"),
        ("application/json", [["1"]], "not all numbers"),
        ("application/json", [[1], [1, 2]], "not all numbers"),
        ("application/json", [[10**400]], "not all numbers"),
        ("application/json", [{"b64": 5}], "a picture in base64"),
        ("application/json", [{"url": "x"}], "a picture in base64"),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_refused(client: FlaskClient, kind: str, data: Any, words: str) -> None:
    response = ask(client, data, kind)
    assert (response.status_code, response.json["type"]) == (400, "BadRequestException")
    assert words in response.json["message"]


def test_the_limits_of_pictures_and_frames_apply_to_rows(client: FlaskClient) -> None:
    assert ask(client, npy(np.zeros((5, 1, 64, 64))), "application/x-npy").status_code == 413
    assert ask(client, [{"b64": ""}] * 5, "application/json").status_code == 413
    dots = [Image.new("L", (1, 1), 200 * (number % 2)) for number in range(1001)]  # equal ones would be one frame
    film = base64.b64encode(encode(dots[0], "GIF", save_all=True, append_images=dots[1:])).decode()
    refused = ask(client, [{"b64": film}], "application/json")
    assert (refused.status_code, "1,000 frames" in refused.json["message"]) == (413, True)


def test_out_of_memory_has_the_status_that_sagemaker_expects(client: FlaskClient) -> None:
    with client.application.test_request_context("/models", method="POST"):
        assert mms_error_response(MemoryError()).status_code == 507
