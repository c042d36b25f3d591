"""The access control of the models page. Its functions are tested in a browser, in tests/browser."""

from __future__ import annotations

import io
import re
import shutil

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.settings import ROOT

MANAGEMENT = "http://localhost:8081"
PUBLIC = "http://localhost:8080"


@pytest.fixture
def token(client: FlaskClient) -> str:
    """Return the token of the page's forms, after the page was opened."""
    page = client.get("/manage/", base_url=MANAGEMENT)
    assert page.status_code == 200
    found = re.search(r'name="token" value="([0-9a-f]+)"', page.text)
    assert found
    return found[1]


def unregister(client: FlaskClient, token: str, base: str = MANAGEMENT, **headers: str) -> int:
    path, data = "/manage/dogcat/unregister", {"token": token}
    return client.post(path, data=data, base_url=base, headers=headers).status_code


@pytest.mark.parametrize("path", ["/manage", "/manage/state", "/manage/static/page.css"])
def test_the_page_is_served_only_at_the_management_port(client: FlaskClient, path: str) -> None:
    assert client.get(path, base_url=PUBLIC).status_code == 404
    assert client.get(path, base_url=MANAGEMENT, follow_redirects=True, buffered=True).status_code == 200


def test_only_requests_from_the_page_can_unregister_a_model(app: Flask, client: FlaskClient, token: str) -> None:
    assert unregister(client, token, base=PUBLIC) == 404
    assert unregister(client, "") == 403
    assert unregister(client, "0" * 48) == 403
    assert unregister(app.test_client(), token) == 403  # the token without its cookie
    assert unregister(client, token, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert unregister(client, token, Origin="http://evil.example") == 403
    # a foreign name that resolves to this machine
    assert unregister(client, token, base="http://evil.example:8081") == 403
    assert client.get("/predict/dogcat").json["state"] == "ready"


def test_the_cookie_is_not_sent_by_other_sites(client: FlaskClient) -> None:
    cookie = client.get("/manage/", base_url=MANAGEMENT).headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie
    assert "HttpOnly" in cookie


def test_a_file_that_is_no_archive_is_rejected_and_removed(app: Flask, client: FlaskClient, token: str) -> None:
    folder = app.extensions["dimple"].settings.instance_dir / "uploaded"
    for name, data in (("evil.exe", b"MZ"), ("../../evil.mar", b"no archive")):
        form = {"token": token, "archive": (io.BytesIO(data), name), "workers": "1"}
        answer = client.post("/manage/register", data=form, base_url=MANAGEMENT)
        assert answer.status_code >= 400
        assert 'role="alert"' in answer.text
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.parametrize("workers", ["-1", "65", "many", "\u0663x"])
def test_the_number_of_workers_must_be_small(client: FlaskClient, token: str, workers: str) -> None:
    form = {"token": token, "workers": workers}
    answer = client.post("/manage/dogcat/scale", data=form, base_url=MANAGEMENT)
    assert answer.status_code == 400
    assert "from 0 to 64" in answer.text


def test_a_browser_is_redirected_to_the_page_and_a_client_of_mms_is_not(client: FlaskClient) -> None:
    browser = client.get("/", base_url=MANAGEMENT, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (browser.status_code, browser.headers["Location"]) == (302, "/manage/")
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        answer = client.get("/", base_url=MANAGEMENT, headers=headers)
        assert (answer.status_code, answer.json["type"]) == (405, "MethodNotAllowedException")


def test_an_error_does_not_reveal_folders_of_the_server(app: Flask, client: FlaskClient, token: str) -> None:
    settings = app.extensions["dimple"].settings
    broken = settings.models_dir / "broken"
    broken.mkdir()
    (broken / "broken-symbol.json").write_text("{}")
    try:
        form = {"token": token, "url": "broken", "workers": "1"}
        page = client.post("/manage/register", data=form, base_url=MANAGEMENT)
        part = client.post("/manage/register", data=form, base_url=MANAGEMENT, headers={"X-Part": "result"})
    finally:
        shutil.rmtree(broken)
    assert page.status_code == part.status_code >= 400
    assert "broken" in part.json["message"]
    for folder in (settings.models_dir, settings.instance_dir, ROOT):
        assert str(folder) not in page.text
        assert str(folder) not in part.text


def test_a_model_has_a_page_of_details_and_its_own_page(client: FlaskClient) -> None:
    page = client.get("/manage/models/dogcat", base_url=MANAGEMENT)
    assert page.status_code == 200
    assert "Last 24 hours" in page.text
    assert client.get("/manage/models/nonesuch", base_url=MANAGEMENT).status_code == 404
    about = client.get("/manage/about/dogcat", base_url=MANAGEMENT)
    assert about.status_code == 200
    assert "http://localhost:8080/predict/dogcat" in about.text


def test_the_catalogue_is_listed(client: FlaskClient) -> None:
    models = {model["name"]: model for model in client.get("/manage/catalogue", base_url=MANAGEMENT).json}
    assert models["resnet50_v2"]["top1"] == 77.11
    assert models["resnet50_v2"]["megabytes"] > 100


def test_progress_is_found_only_by_the_id_of_the_registration(client: FlaskClient) -> None:
    assert client.get("/manage/progress/0123456789abcdef", base_url=MANAGEMENT).json == {}
    for identity in ("..", "0", "0123456789ABCDEF"):
        assert client.get(f"/manage/progress/{identity}", base_url=MANAGEMENT).status_code == 404


def test_the_state_counts_prediction_requests(client: FlaskClient) -> None:
    def counts() -> dict[str, int]:
        models = client.get("/manage/state", base_url=MANAGEMENT).json["models"]
        return next(model["counts"] for model in models if model["model"] == "dogcat")

    before = counts()
    client.post("/predict/dogcat", data=b"no picture")
    client.get("/predict/dogcat")
    client.post("/file/", data={"sample": "chelsea"})
    after = counts()
    assert after["requests"] - before["requests"] == 2  # a description is no prediction
    assert after["errors"] == before["errors"]
    assert after["inside"] == 0
