from __future__ import annotations

import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app, load_models
from app.formats.pictures import SUFFIXES
from app.settings import ROOT, Settings
from tests.conftest import CACHE
from tests.pictures import astronaut, encode, plain

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class Tags(HTMLParser):
    """Every start tag of a page with its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def send(client: FlaskClient, data: bytes, model: str = "", name: str = "a.jpg", browser: bool = True):  # type: ignore[no-untyped-def]
    form = {"file": (io.BytesIO(data), name)} | ({"model": model} if model else {})
    return client.post("/file/", data=form, headers=BROWSER if browser else {})


def test_the_form_posts_a_file_to_the_file_route(client: FlaskClient) -> None:
    page = Tags(client.get("/").text)
    (form,) = page.all("form")
    assert (form["action"], form["method"], form["enctype"]) == ("/file/", "post", "multipart/form-data")
    inputs = page.all("input")
    # those for a folder and for a phone's camera have no name: the page's script sends them
    assert [field.get("name") for field in inputs if field["type"] == "file"] == ["file", None, None]
    choices = {field["value"]: "checked" in field for field in inputs if field.get("name") == "model"}
    assert choices == {"dogcat": False, "imagenet": False, "smile": True}


def test_the_form_runs_only_our_own_files_and_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    response = client.get("/")
    page = Tags(response.text)
    assert [script["src"] for script in page.all("script")] == ["/static/js/classify.js"]
    assert page.all("style") == []
    assert not [
        tag for tag, attributes in page.tags if any(name.startswith("on") or name == "style" for name in attributes)
    ]
    addresses = [a for _, attrs in page.tags for a in (attrs.get("src"), attrs.get("href")) if a]
    assert addresses
    assert all(address.startswith(("/", "#")) for address in addresses)
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_every_link_of_the_page_has_a_target(client: FlaskClient) -> None:
    page = Tags(client.get("/").text)
    files = [tag["src"] for tag in page.all("img") + page.all("script")]
    for address in [link["href"] for link in page.all("link") + page.all("a")] + files:
        with client.get(address or "", follow_redirects=True) as response:
            assert response.status_code == 200


def test_a_browser_gets_a_page_with_the_picture_classes_and_probabilities(client: FlaskClient) -> None:
    response = send(client, encode(astronaut()))
    assert response.mimetype == "text/html"
    page = Tags(response.text)
    (image,) = page.all("image")
    with client.get(image["href"] or "") as preview:
        assert preview.mimetype == "image/jpeg"
    assert len(page.all("g")) == 1  # one frame for one face
    (bar,) = [rect["width"] or "" for rect in page.all("rect") if rect.get("class") == "fill"]  # one for two classes
    assert 95 < float(bar.rstrip("%")) < 100
    words = " ".join(page.text.split())
    assert re.search(r"Smiling 9\d\.\d% Not smiling \d\.\d%", words)


def test_a_program_gets_the_result_as_json(client: FlaskClient) -> None:
    picture = encode(astronaut())
    answer = send(client, picture, browser=False)
    direct = client.post("/predict/smile", data=picture)
    assert answer.json["predictions"] == direct.json["predictions"]
    assert answer.json["faces"] == direct.json["faces"]


def test_the_form_chooses_the_model(client: FlaskClient) -> None:
    assert send(client, encode(plain()), "dogcat", browser=False).json["model"] == "dogcat"


def test_an_upload_is_stored_but_never_under_the_name_from_the_client(app: Flask, client: FlaskClient) -> None:
    folder = app.extensions["dimple"].settings.uploads_dir
    picture = encode(plain(33, 44), "PNG")
    send(client, picture, "dogcat", name="../../evil.jpg")
    stored = [path for path in folder.iterdir() if path.read_bytes() == picture]
    assert [path.suffix for path in stored] == [".png"]
    assert "evil" not in stored[0].name


def test_a_bad_upload_is_not_stored(app: Flask, client: FlaskClient) -> None:
    folder = app.extensions["dimple"].settings.uploads_dir
    before = set(folder.iterdir())
    send(client, b"no picture")
    assert set(folder.iterdir()) == before


def test_names_and_labels_are_text_and_never_markup(client: FlaskClient) -> None:
    response = send(client, encode(plain()), "dogcat", name="<script>alert(1)</script>.jpg")
    assert "<script>alert" not in response.text
    assert html.escape("<script>") in response.text


@pytest.mark.parametrize(
    ("data", "model", "code", "named"),
    [
        (b"", "", 400, "empty"),
        (b"hello", "", 415, "cannot be read as a picture"),
        (b"x", "<b>nose</b>", 404, "<b>nose</b>"),
    ],
)
def test_a_browser_gets_its_errors_as_a_page(
    client: FlaskClient, data: bytes, model: str, code: int, named: str
) -> None:
    response = send(client, data, model)
    assert (response.status_code, response.mimetype) == (code, "text/html")
    page = Tags(response.text)
    assert named in page.text
    assert page.all("b") == []
    assert {"href": "/", "class": "button primary"} in page.all("a")


def test_a_program_gets_its_errors_as_json(client: FlaskClient) -> None:
    response = send(client, b"hello", browser=False)
    assert (response.status_code, response.json["type"]) == (415, "NotAPicture")


def test_a_get_request_for_the_file_route_redirects_to_the_form(client: FlaskClient) -> None:
    response = client.get("/file/")
    assert (response.status_code, response.location) == (303, "/")


def test_index_html_redirects_to_the_form(client: FlaskClient) -> None:
    response = client.get("/index.html")
    assert (response.status_code, response.location) == (301, "/")


@pytest.mark.parametrize("setting", ["smile", "dogcat"])
def test_a_form_without_a_model_uses_the_default_or_the_only_model(
    models_dir: Path, tmp_path: Path, setting: str
) -> None:
    """The form of the dogs-and-cats tutorial has no field for a model."""
    folders = {"uploads_dir": tmp_path / "uploads", "instance_dir": tmp_path / "instance", "cache_dir": CACHE}
    only = "dogcat" if setting == "smile" else "dogcat,smile"
    app = create_app(Settings(models_dir=models_dir, load_models=only, default_model=setting, **folders))
    load_models(app)
    try:
        client = app.test_client()
        assert send(client, encode(astronaut(), "JPEG"), browser=False).json["model"] == "dogcat"
        choices = [field for field in Tags(client.get("/").text).all("input") if field.get("name") == "model"]
        assert [field["value"] for field in choices if "checked" in field] == ["dogcat"]
    finally:
        app.extensions["dimple"].registry.close()


def test_an_unknown_address_is_a_page_for_browsers_and_json_for_programs(client: FlaskClient) -> None:
    assert client.get("/nothing", headers=BROWSER).mimetype == "text/html"
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response.json == {
        "code": 404,
        "type": "ResourceNotFoundException",
        "message": "Requested resource is not found, please refer to API document.",
    }  # as Multi Model Server tells its clients


def test_several_pictures_get_their_answers_or_errors_in_order(client: FlaskClient) -> None:
    picture = encode(plain())
    form = {
        "file": [(io.BytesIO(picture), "a.jpg"), (io.BytesIO(b"hello"), "b.jpg"), (io.BytesIO(b""), "")],
        "model": "dogcat",
    }
    first, second = client.post("/file/", data=form).json
    assert first["model"] == "dogcat"
    assert second["error"]["code"] == 415


def test_more_pictures_than_are_allowed_are_refused(client: FlaskClient) -> None:
    form = {"file": [(io.BytesIO(encode(plain())), "a.jpg") for _ in range(5)]}
    response = client.post("/file/", data=form)
    assert (response.status_code, response.json["type"]) == (413, "TooManyFiles")
    assert "4" in response.json["message"]


def test_a_sample_is_classified_by_its_own_model(client: FlaskClient) -> None:
    answer = client.post("/file/", data={"sample": "chelsea", "model": "smile"}).json
    assert (answer["model"], answer["predictions"][0]["class"]) == ("dogcat", "cat")
    assert client.post("/file/", data={"sample": "../secret"}).status_code == 400


def test_a_model_is_shown_with_its_measured_accuracy(client: FlaskClient, models_dir: Path) -> None:
    metrics = json.loads((models_dir / "smile" / "metrics.json").read_text())
    text = " ".join(Tags(client.get("/").text).text.split())
    assert f"{metrics['accuracy'] * 100:.1f}% accuracy · {metrics['n']:,} test images" in text


def test_training_images_of_a_model_are_not_called_test_images(client: FlaskClient, models_dir: Path) -> None:
    path = models_dir / "smile" / "metrics.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({"how": "5-fold cross-validation", "accuracy": 0.9, "n": 50}))
        text = " ".join(Tags(client.get("/").text).text.split())
    finally:
        path.write_text(before)
    assert "90.0% accuracy · 5-fold cross-validation on its 50 training images." in text


def test_a_manifest_may_describe_its_model(app: Flask, client: FlaskClient, models_dir: Path) -> None:
    path = models_dir / "smile" / "MAR-INF" / "MANIFEST.json"
    before = path.read_text()
    manifest = json.loads(before)
    manifest["model"]["description"] = "Knows a smile & <b>no</b> more."
    try:
        path.write_text(json.dumps(manifest))
        page = Tags(client.get("/").text)
    finally:
        path.write_text(before)
    assert "Knows a smile & <b>no</b> more." in page.text


@pytest.mark.parametrize(
    ("path", "address"),
    [("/live", "/predict/smile"), ("/gate", "/predict/smile"), ("/live?model=dogcat", "/predict/dogcat")],
)
def test_the_camera_pages_use_the_smile_model_or_the_chosen_model(client: FlaskClient, path: str, address: str) -> None:
    page = Tags(client.get(path).text)
    assert [tag["data-address"] for tag in page.all("div") if "data-address" in tag] == [address]


def test_the_camera_page_of_an_unknown_model_is_not_found(client: FlaskClient) -> None:
    assert client.get("/live?model=nose", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("base", ["http://localhost:8080", "http://localhost:8081"])
def test_the_icon_is_served_at_both_ports(client: FlaskClient, base: str) -> None:
    with client.get("/favicon.ico", base_url=base) as response:
        assert response.status_code == 200
        assert response.data[:4] == b"\0\0\1\0"  # the format's magic number, and its kind: icon


def test_the_page_does_not_advise_visitors_to_change_settings(client: FlaskClient) -> None:
    large = encode(plain(5000, 4100), "PNG")
    assert "DIMPLE_MAX_PIXELS" in send(client, large, browser=False).json["message"]
    page = send(client, large)
    assert page.status_code == 413
    assert "This image is too large" in page.text
    assert "DIMPLE_" not in page.text


@pytest.mark.parametrize(
    ("method", "path", "heading"), [("get", "/nothing", "Page not found"), ("get", "/logout", "cannot be opened")]
)
def test_error_pages_have_a_heading_with_the_error(client: FlaskClient, method: str, path: str, heading: str) -> None:
    assert heading in getattr(client, method)(path, headers=BROWSER).text


def test_the_page_accepts_the_same_file_types_as_the_commands() -> None:
    (pattern,) = re.findall(r"const IMAGE = /(.*)/i;", (ROOT / "static" / "js" / "files.js").read_text())
    assert all(re.search(pattern, f"picture{suffix}", re.IGNORECASE) for suffix in SUFFIXES)
    assert not re.search(pattern, "notes.txt", re.IGNORECASE)
