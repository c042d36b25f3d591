from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.pictures import astronaut, encode, face_crop, noise, plain, png_bomb


def part(data: bytes, name: str = "a.jpg") -> tuple[io.BytesIO, str]:
    return io.BytesIO(data), name


def ask(client: FlaskClient, model: str, data: bytes, query: str = "") -> Any:
    response = client.post(f"/predict/{model}{query}", data={"file": part(data)})
    assert response.status_code == 200, response.text
    return response.json


def test_a_response_has_the_documented_fields_and_probabilities_sum_to_one(client: FlaskClient) -> None:
    answer = ask(client, "dogcat", encode(plain()))
    assert list(answer) == ["model", "version", "predictions", "faces", "timing_ms"]
    assert (answer["model"], answer["version"], answer["faces"]) == ("dogcat", "1.0", None)
    assert {row["class"] for row in answer["predictions"]} == {"cat", "dog"}
    assert sum(row["probability"] for row in answer["predictions"]) == pytest.approx(1, abs=1e-6)
    assert answer["predictions"][0]["probability"] >= answer["predictions"][1]["probability"]


def test_a_thousand_classes_sum_to_one_and_five_are_returned_by_default(client: FlaskClient) -> None:
    picture = encode(astronaut())
    assert len(ask(client, "imagenet", picture)["predictions"]) == 5
    rows = ask(client, "imagenet", picture, "?top=1000")["predictions"]
    assert len(rows) == 1000
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-5)
    probabilities = [row["probability"] for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_the_astronaut_smiles_and_her_face_is_located(client: FlaskClient) -> None:
    answer = ask(client, "smile", encode(astronaut()))
    assert answer["predictions"][0]["class"] == "smiling"
    (face,) = answer["faces"]
    box = face["box"]
    # between the eyes, and the mouth, read off the picture
    for x, y in ((222, 108), (222, 142)):
        assert box["x"] < x < box["x"] + box["width"]
        assert box["y"] < y < box["y"] + box["height"]
    assert face["predictions"] == answer["predictions"]


def test_the_box_of_a_face_is_in_the_pixels_of_a_large_photograph(client: FlaskClient) -> None:
    (small,) = client.post("/predict/smile", data=encode(astronaut())).json["faces"]
    large = astronaut().resize((4096, 4096), Image.Resampling.BICUBIC)
    (face,) = client.post("/predict/smile", data=encode(large)).json["faces"]  # decoded at a half of its size
    for side, length in face["box"].items():
        assert length == pytest.approx(8 * small["box"][side], abs=24)
    probability = face["predictions"][0]["probability"]
    assert probability == pytest.approx(small["predictions"][0]["probability"], abs=0.02)


def test_a_face_crop_is_classified_as_a_whole(client: FlaskClient) -> None:
    answer = ask(client, "smile", encode(face_crop(), "PNG"))
    assert answer["faces"] is None
    assert "note" not in answer


def test_a_picture_without_a_face_is_classified_with_a_note(client: FlaskClient) -> None:
    answer = ask(client, "smile", encode(plain(640, 480)))
    assert answer["faces"] == []
    assert "No face" in answer["note"]
    assert len(answer["predictions"]) == 2


def test_a_jpeg_without_its_end_marker_is_classified_with_a_note(client: FlaskClient) -> None:
    picture = encode(plain())
    whole, cut = ask(client, "dogcat", picture), ask(client, "dogcat", picture[:-2])
    assert cut["predictions"] == whole["predictions"]
    assert "EOI" in cut["note"]
    assert "note" not in whole
    assert "No face" in ask(client, "smile", encode(plain(640, 480))[:-2])["note"]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/x-www-form-urlencoded", "text/plain", None])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_raw_body_with_any_content_type_is_answered_like_a_form(client: FlaskClient, method: str, kind: str) -> None:
    picture = encode(plain())
    response = client.open("/predict/dogcat", method=method, data=picture, content_type=kind)
    assert response.status_code == 200
    assert response.json["predictions"] == ask(client, "dogcat", picture)["predictions"]


def test_the_only_file_is_used_with_any_field_name(client: FlaskClient) -> None:
    response = client.post("/predict/dogcat", data={"image": part(encode(plain())), "comment": "hello"})
    assert response.status_code == 200


def test_several_files_get_separate_answers_and_a_bad_file_affects_no_other(client: FlaskClient) -> None:
    good, other = encode(astronaut()), encode(plain())
    response = client.post("/predict/dogcat", data={"file": [part(good), part(b"hello"), part(other), part(b"")]})
    assert response.status_code == 200
    first, second, third, fourth = response.json
    assert first["predictions"] == ask(client, "dogcat", good)["predictions"]
    assert third["predictions"] == ask(client, "dogcat", other)["predictions"]
    assert (second["error"]["code"], second["error"]["type"]) == (415, "NotAPicture")
    assert (fourth["error"]["code"], fourth["error"]["type"]) == (400, "EmptyFile")


def test_top_limits_the_number_of_classes(client: FlaskClient) -> None:
    assert len(ask(client, "imagenet", encode(plain()), "?top=3")["predictions"]) == 3
    assert len(ask(client, "dogcat", encode(plain()), "?top=99")["predictions"]) == 2


def test_the_models_are_listed(client: FlaskClient) -> None:
    models = {model["model"]: model for model in client.get("/predict/").json["models"]}
    assert set(models) == {"dogcat", "imagenet", "smile"}
    assert models["dogcat"]["labels"] == ["cat", "dog"]
    assert models["smile"]["input"]["shape"] == [0, 1, 64, 64]
    assert models["smile"]["state"] == "ready"
    assert len(models["imagenet"]["labels"]) == 1000
    assert "n02123045 tabby, tabby cat" in models["imagenet"]["labels"]


def test_one_model_is_described_as_in_the_list(client: FlaskClient) -> None:
    assert client.get("/predict/smile").json in client.get("/predict/").json["models"]


BAD = [
    pytest.param({}, 400, "MissingFile", "'file'", id="empty form"),
    pytest.param({"name": "x"}, 400, "MissingFile", "name", id="no file part"),
    pytest.param({"file": "text"}, 400, "MissingFile", "file", id="file field without a file"),
    pytest.param({"file": (io.BytesIO(b"x"), "")}, 400, "EmptyFile|MissingFile", "picture", id="empty name"),
    pytest.param({"file": part(b"")}, 400, "EmptyFile", "a.jpg", id="empty file"),
    pytest.param({"file": part(b"hello there")}, 415, "NotAPicture", "text", id="text"),
    pytest.param({"file": part(encode(astronaut())[:9000])}, 415, "NotAPicture", "cut off", id="truncated"),
    pytest.param({"file": part(png_bomb())}, 413, "PictureTooLarge", "40000 x 40000", id="bomb"),
    pytest.param({"file": [part(b"x")] * 5}, 413, "TooManyFiles", "5", id="too many"),
    pytest.param({"a": part(b"x"), "b": part(b"x")}, 400, "MissingFile", "a, b", id="two unnamed files"),
]


@pytest.mark.parametrize(("form", "code", "kind", "named"), BAD)
def test_bad_input_is_refused_with_the_fault(
    client: FlaskClient, form: dict[str, Any], code: int, kind: str, named: str
) -> None:
    copies = {name: copy_part(value) for name, value in form.items()}
    response = client.post("/predict/smile", data=copies, content_type="multipart/form-data")
    assert response.status_code == code, response.text
    assert response.json["code"] == code
    assert response.json["type"] in kind.split("|")
    assert named in response.json["message"]


def copy_part(value: Any) -> Any:
    """Copy a part, as Flask's client closes what it sends, and parameters are used by more than one run."""
    if isinstance(value, list):
        return [copy_part(item) for item in value]
    return (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value


def test_an_empty_body_is_refused(client: FlaskClient) -> None:
    response = client.post("/predict/smile", content_type="image/jpeg")
    assert (response.status_code, response.json["type"]) == (400, "MissingFile")


def test_a_body_that_is_too_long_is_refused_with_the_limit(client: FlaskClient) -> None:
    response = client.post("/predict/smile", data=noise(2400, 2400))
    assert (response.status_code, response.json["code"]) == (413, 413)
    assert "4,194,304" in response.json["message"]


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5", "", "9" * 5000])
def test_an_invalid_top_parameter_is_refused(client: FlaskClient, top: str) -> None:
    response = client.post(f"/predict/smile?top={top}", data=encode(plain()))
    assert (response.status_code, response.json["type"]) == (400, "BadParameter")
    assert top[:20] in response.json["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_model_is_refused_with_the_existing_models(client: FlaskClient, method: str) -> None:
    response = client.open("/predict/nose", method=method, data=encode(plain()))
    assert (response.status_code, response.json["type"]) == (404, "ModelNotFound")
    assert "nose" in response.json["message"]
    assert "dogcat, imagenet, smile" in response.json["message"]


def test_a_wrong_method_is_refused_with_the_allowed_methods(client: FlaskClient) -> None:
    response = client.delete("/predict/smile")
    assert response.status_code == 405
    assert "POST" in response.json["message"]
    assert "POST" in response.headers["Allow"]


def test_a_multipart_body_without_a_boundary_is_refused(client: FlaskClient) -> None:
    response = client.post("/predict/smile", data=encode(plain()), content_type="multipart/form-data")
    assert response.status_code == 400


def test_errors_are_json_even_for_a_browser(client: FlaskClient) -> None:
    response = client.post("/predict/nose", data=b"x", headers={"Accept": "text/html"})
    assert json.loads(response.text)["code"] == 404
