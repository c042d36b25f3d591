"""Results at their URLs: who can view and change them, and their lifetime."""

from __future__ import annotations

import html
import io
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from tests.pictures import astronaut, encode, plain

BROWSER = {"Accept": "text/html"}
NOBODY = "0" * 32


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def portrait(client: FlaskClient) -> str:
    """Return the number of the astronaut's result."""
    return send(client, encode(astronaut()))


def send(client: FlaskClient, data: bytes, model: str = "smile", name: str = "a.jpg") -> str:
    page = client.post("/file/", data={"file": (io.BytesIO(data), name), "model": model}, headers=BROWSER)
    found = re.search(r'data-id="([0-9a-f]{32})"', page.text)
    assert found
    return found[1]


def test_a_result_is_visible_to_everyone_with_its_url(stranger: FlaskClient, portrait: str) -> None:
    page = stranger.get(f"/result/{portrait}", headers=BROWSER)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "Smiling" in page.text
    assert "/delete" not in page.text
    answer = stranger.get(f"/result/{portrait}").json
    assert answer["predictions"] == stranger.post("/predict/smile", data=encode(astronaut())).json["predictions"]


@pytest.mark.parametrize("path", ["", "/picture", "/seen", "/why"])
def test_an_expired_result_is_reported_as_gone(client: FlaskClient, path: str) -> None:
    response = client.get(f"/result/{NOBODY}{path}")
    assert response.status_code == 410
    assert response.json["message"] == "Results are kept for 24 hours. Send the image again."


def test_the_preview_has_no_metadata_of_the_picture(client: FlaskClient) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRET CAMERA"
    exif[0x0112] = 6  # to be turned by 90 degrees
    identity = send(client, encode(plain(120, 80), exif=exif.tobytes()), "dogcat")
    preview = client.get(f"/result/{identity}/picture").data
    assert b"SECRET" not in preview
    assert Image.open(io.BytesIO(preview)).size == (80, 120)


def test_the_displayed_input_equals_the_tensor_of_the_network(app: Flask, client: FlaskClient, portrait: str) -> None:
    from app.serving.pipeline import Picture, prepare

    (box,) = [face["box"] for face in client.get(f"/result/{portrait}").json["faces"]]
    seen = np.asarray(Image.open(io.BytesIO(client.get(f"/result/{portrait}/seen").data)))
    with app.extensions["dimple"].registry.acquire_builtin("smile") as model:
        image = Image.open(io.BytesIO(encode(astronaut())))
        tensor = prepare(model, Picture(image, 0.0, image.size)).tensor
    assert box["width"] > 0
    assert seen.shape == (64, 64)
    # the network takes 0-1; a picture has 256 steps
    assert np.abs(seen / 255 - tensor[0, 0]).max() <= 0.5 / 255 + 1e-6
    assert client.get(f"/result/{portrait}/seen?face=2").status_code == 400


def test_only_the_sender_can_delete_a_result(client: FlaskClient, stranger: FlaskClient, portrait: str) -> None:
    assert stranger.post(f"/result/{portrait}/delete").status_code == 403
    send(stranger, encode(plain()), "dogcat")  # now it has a number, but another one
    assert stranger.post(f"/result/{portrait}/delete").status_code == 403
    assert client.post(f"/result/{portrait}/delete").location == "/recent"
    assert client.get(f"/result/{portrait}").status_code == 410


def test_recent_results_are_those_of_the_visitor_and_can_all_be_deleted(
    client: FlaskClient, stranger: FlaskClient
) -> None:
    mine = {send(client, encode(plain()), "dogcat"), send(client, encode(plain(50, 50)), "dogcat")}
    theirs = send(stranger, encode(plain()), "dogcat")
    assert {item["id"] for item in client.get("/recent").json} == mine
    client.post("/recent/delete")
    assert client.get("/recent").json == []
    assert stranger.get(f"/result/{theirs}").status_code == 200


def test_the_visitor_id_is_not_exposed(client: FlaskClient) -> None:
    response = client.post("/file/", data={"sample": "chelsea"}, headers=BROWSER)
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Set-Cookie" not in client.post("/file/", data={"sample": "chelsea"}).headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_pages_of_other_sites_cannot_delete_or_correct_a_result(
    client: FlaskClient, portrait: str, headers: dict[str, str]
) -> None:
    for path in (f"/result/{portrait}/delete", f"/result/{portrait}/correct", "/recent/delete"):
        assert client.post(path, data={"label": "smiling"}, headers=headers).status_code == 403
    assert client.get(f"/result/{portrait}").status_code == 200


def test_our_own_page_can_delete_a_result(client: FlaskClient, portrait: str) -> None:
    ours = {"Origin": "http://localhost"}
    assert client.post(f"/result/{portrait}/delete", headers=ours).status_code == 303


def test_a_correction_stores_only_the_face(app: Flask, client: FlaskClient, portrait: str) -> None:
    (face,) = client.get(f"/result/{portrait}").json["faces"]
    response = client.post(f"/result/{portrait}/correct", data={"label": "non-smiling", "face": "1"})
    assert response.location == f"/result/{portrait}"
    folder = Path(app.extensions["dimple"].settings.instance_dir) / "corrections" / "smile" / "non-smiling"
    (path,) = folder.glob(f"{portrait}-1-*.png")
    with Image.open(path) as stored_image:
        size = stored_image.size
    assert size == (face["box"]["width"], face["box"]["height"])
    assert "Saved as Not smiling" in client.get(f"/result/{portrait}", headers=BROWSER).text


def test_a_correction_stores_the_original_file_if_there_is_no_face(app: Flask, client: FlaskClient) -> None:
    picture = encode(plain(), "PNG")
    identity = send(client, picture, "dogcat")
    client.post(f"/result/{identity}/correct", data={"label": "dog"})
    folder = Path(app.extensions["dimple"].settings.instance_dir) / "corrections" / "dogcat" / "dog"
    assert [path.read_bytes() for path in folder.glob(f"{identity}-1-*.png")] == [picture]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_deleting_a_picture_deletes_only_its_own_corrections(
    app: Flask, client: FlaskClient, portrait: str, all_of_them: bool
) -> None:
    other = send(app.test_client(), encode(plain(), "PNG"), "smile")
    assert client.post(f"/result/{other}/correct", data={"label": "smiling"}).status_code == 403
    folder = Path(app.extensions["dimple"].settings.instance_dir) / "corrections" / "smile"
    mine = send(client, encode(plain(), "PNG"), "smile")
    for identity in (portrait, mine):
        client.post(f"/result/{identity}/correct", data={"label": "non-smiling", "face": "1"})
    assert {path.name[:32] for path in folder.rglob("*.png")} >= {portrait, mine}
    client.post("/recent/delete" if all_of_them else f"/result/{portrait}/delete")
    left = {path.name[:32] for path in folder.rglob("*.png")}
    assert portrait not in left
    assert (mine in left) is not all_of_them


def test_a_label_may_be_given_by_its_displayed_name(app: Flask, client: FlaskClient) -> None:
    identity = send(client, encode(plain(), "PNG"), "imagenet")
    folder = Path(app.extensions["dimple"].settings.instance_dir) / "corrections" / "imagenet"
    for label in ("espresso", "Espresso", "n07920052 espresso"):
        assert client.post(f"/result/{identity}/correct", data={"label": label}).status_code == 303
        assert [path.parent.name for path in folder.rglob("*.png")] == ["n07920052 espresso"]
    refused = client.post(f"/result/{identity}/correct", data={"label": "expresso"})
    assert (refused.status_code, "Espresso" in refused.json["message"]) == (400, True)


def test_a_name_shared_by_two_classes_is_distinguished_by_their_ids(app: Flask, client: FlaskClient) -> None:
    named = {item["name"]: item["label"] for item in client.get("/labels/imagenet").json}
    assert len(named) == 1000
    assert named["Bald eagle"].startswith("n01614925 bald eagle")
    assert (named["Crane (n02012849)"], named["Crane (n03126707)"]) == ("n02012849 crane", "n03126707 crane")
    identity = send(client, encode(plain(), "PNG"), "imagenet")
    refused = client.post(f"/result/{identity}/correct", data={"label": "crane"})
    assert (refused.status_code, "Crane (n02012849); Crane (n03126707)" in refused.json["message"]) == (400, True)
    assert client.post(f"/result/{identity}/correct", data={"label": "crane (n03126707)"}).status_code == 303
    folder = Path(app.extensions["dimple"].settings.instance_dir) / "corrections" / "imagenet" / "n03126707 crane"
    assert len(list(folder.glob(f"{identity}-*"))) == 1


def test_a_visitor_lists_exports_and_deletes_own_corrections(
    app: Flask, client: FlaskClient, stranger: FlaskClient
) -> None:
    picture = encode(plain(), "PNG")
    identity = send(client, picture, "dogcat")
    client.post(f"/result/{identity}/correct", data={"label": "dog"})
    app.extensions["dimple"].uploads.delete(app.extensions["dimple"].uploads.find(identity))  # as when it expires
    listed = client.get("/corrections", headers=BROWSER).text
    (name,) = re.findall(r"/corrections/([^/]+)/picture", listed)
    assert client.get(f"/corrections/{name}/picture").mimetype == "image/jpeg"
    with client.get("/corrections.zip") as response, zipfile.ZipFile(io.BytesIO(response.data)) as packed:
        assert {file: packed.read(file) for file in packed.namelist()} == {f"dogcat/dog/{name}": picture}
    assert stranger.get(f"/corrections/{name}/picture").status_code == 410
    assert stranger.post(f"/corrections/{name}/delete").status_code == 410
    assert "No corrections yet" in stranger.get("/corrections", headers=BROWSER).text
    assert client.post(f"/corrections/{name}/delete", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post(f"/corrections/{name}/delete").location == "/corrections"
    assert "No corrections yet" in client.get("/corrections", headers=BROWSER).text


def test_deleting_an_image_deletes_its_results_of_other_models(client: FlaskClient, portrait: str) -> None:
    page = client.post("/file/", data={"again": portrait, "model": "dogcat"}, headers=BROWSER)
    copy = re.search(r'data-id="([0-9a-f]{32})"', page.text)[1]  # type: ignore[index]
    other = send(client, encode(plain()), "dogcat")
    client.post(f"/result/{copy}/delete")
    assert [client.get(f"/result/{identity}").status_code for identity in (portrait, copy, other)] == [410, 410, 200]


def test_models_are_compared_on_a_stored_image(client: FlaskClient, portrait: str) -> None:
    part = client.get(f"/result/{portrait}?with=dogcat", headers={"X-Part": "row"}).json
    assert [one["model"] for one in part["answers"]] == ["smile", "dogcat"]
    direct = client.post("/predict/dogcat", data=encode(astronaut())).json
    assert part["answers"][1]["answer"]["predictions"] == direct["predictions"]
    page = client.get(f"/result/{portrait}?with=dogcat&with=imagenet", headers=BROWSER).text
    assert re.findall(r'class="verdict[^"]*" data-model="(\w+)"', page) == ["smile", "dogcat", "imagenet"]
    many = ",".join(f"m{number}" for number in range(9))
    assert client.get(f"/result/{portrait}?with={many}", headers=BROWSER).status_code == 400
    assert client.get(f"/result/{portrait}?with=nose", headers=BROWSER).status_code == 404


def test_a_shared_result_has_a_title_and_a_picture_for_previews(client: FlaskClient, portrait: str) -> None:
    page = client.get(f"/result/{portrait}", headers=BROWSER).text
    found = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', page))
    assert found["title"] == "Smiling"
    assert found["description"].startswith("smile: Smiling 9")
    assert found["image"] == f"http://localhost/result/{portrait}/picture"
    assert client.get(found["image"]).mimetype == "image/jpeg"


def test_an_unknown_label_is_refused_with_similar_labels(client: FlaskClient, portrait: str) -> None:
    response = client.post(f"/result/{portrait}/correct", data={"label": "smilin"})
    assert response.status_code == 400
    assert "Smiling" in response.json["message"]


def test_another_model_classifies_a_stored_picture(client: FlaskClient, portrait: str) -> None:
    answer = client.post("/file/", data={"again": portrait, "model": "dogcat"}).json
    assert answer["predictions"] == client.post("/predict/dogcat", data=encode(astronaut())).json["predictions"]
    assert client.post("/file/", data={"again": NOBODY}).status_code == 400


def test_an_explanation_has_the_probability_and_a_drop_for_every_cell(client: FlaskClient, portrait: str) -> None:
    answer = client.get(f"/result/{portrait}").json
    explanation = client.get(f"/result/{portrait}/why", headers={"Accept": "application/json"}).json
    assert explanation["class"] == "smiling"
    assert explanation["probability"] == pytest.approx(answer["predictions"][0]["probability"], abs=1e-6)
    assert explanation["region"] == answer["faces"][0]["box"]
    drops = np.array(explanation["drops"])
    assert drops.size == explanation["occlusions"] <= 200
    # a smile is in the lower half of a face
    assert np.unravel_index(drops.argmax(), drops.shape)[0] >= len(drops) / 2
    by_program = client.post(
        "/explain/smile?class=smiling", data=encode(astronaut()), headers={"Accept": "application/json"}
    ).json
    assert by_program["drops"] == explanation["drops"]


@pytest.mark.parametrize(
    ("query", "named"), [("class=nose", "non-smiling, smiling"), ("face=9", "from 1 to 1"), ("face=x", "whole")]
)
def test_an_impossible_explanation_is_refused_with_the_reason(client: FlaskClient, query: str, named: str) -> None:
    response = client.post(f"/explain/smile?{query}", data=encode(astronaut()))
    assert response.status_code == 400
    assert named in response.json["message"]


def test_the_page_shows_the_result_even_if_nothing_is_stored(app: Flask, models_dir: Path) -> None:
    from dataclasses import replace

    from app.serving.uploads import Uploads

    here = app.extensions["dimple"]
    app.extensions["dimple"] = replace(here, uploads=Uploads(here.settings.uploads_dir, 0, 1000))
    try:
        page = app.test_client().post("/file/", data={"sample": "astronaut"}, headers=BROWSER)
    finally:
        app.extensions["dimple"] = here
    assert "data:image/jpeg;base64," in page.text
    assert "data:image/png;base64," in page.text
    assert "/result/" not in page.text


def test_a_result_is_shown_after_its_model_was_removed(app: Flask, client: FlaskClient) -> None:
    here = app.extensions["dimple"]
    answer = client.post("/predict/dogcat", data=encode(plain())).json | {"model": "gone"}
    record = {"name": "a.jpg", "answer": answer, "width": 64, "height": 48}
    identity = here.uploads.keep(encode(plain()), ".jpg", "x", record)
    page = client.get(f"/result/{identity}", headers=BROWSER)
    assert page.status_code == 200
    assert "Heat map" not in page.text
    assert "Compare with" in page.text
    assert client.get(f"/result/{identity}/why").status_code == 404


@pytest.mark.parametrize(
    "name", ["a b.jpg", "it's.jpg", "a;type=x.jpg", 'quo"te,.jpg', "back\\slash;.jpg", "$(touch x).jpg"]
)
def test_the_command_quotes_any_file_name(
    app: Flask, client: FlaskClient, portrait: str, name: str, tmp_path: Path
) -> None:
    uploads = app.extensions["dimple"].uploads
    record = uploads.find(portrait).record | {"name": name}
    identity = uploads.keep(encode(plain()), ".jpg", "x", record)
    page = client.get(f"/result/{identity}", headers=BROWSER).text
    command = html.unescape(re.search(r'<pre [^>]*"curl">(.*?)</pre>', page, re.DOTALL)[1])  # type: ignore[index]
    (tmp_path / name).write_bytes(b"x")
    # curl reads the file before its connection to port 1 is refused; if it cannot read it, it exits with 26
    test_command = re.sub(r"http://[^ ']*", "http://127.0.0.1:1/", command)
    done = subprocess.run(test_command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 7
    assert [path.name for path in tmp_path.iterdir()] == [name]
