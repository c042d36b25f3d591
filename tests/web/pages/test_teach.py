"""The access control of the pages that teach a model. Their functions are tested in a browser, in tests/browser."""

from __future__ import annotations

import io
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from app.serving.teaching_projects import Project, Projects
from app.settings import PictureLimits
from tests.pictures import encode, plain
from tests.training.transfer.shapes import draw

MANAGEMENT = "http://localhost:8081"
PUBLIC = "http://localhost:8080"
PART = {"Accept": "application/json", "X-Part": "result"}


@pytest.fixture
def token(client: FlaskClient) -> str:
    """Return the token of the forms, after the page was opened."""
    page = client.get("/manage/teach/", base_url=MANAGEMENT)
    assert page.status_code == 200
    found = re.search(r'name="token" value="([0-9a-f]+)"', page.text)
    assert found
    return found[1]


@pytest.fixture
def project(app: Flask) -> Project:
    projects = Projects(app.extensions["dimple"].settings.instance_dir / "teach")
    for old in projects.all():
        projects.delete(old)
    return projects.create("pets", ["cat", "dog"])


def post(client: FlaskClient, path: str, token: str, base: str = MANAGEMENT, headers: object = None, **form: object):  # type: ignore[no-untyped-def]
    data = {"token": token, **form}
    return client.post(f"/manage/teach/{path}", data=data, base_url=base, headers=headers or PART)


def test_only_requests_from_the_page_can_teach_a_model(
    app: Flask, client: FlaskClient, token: str, project: Project
) -> None:
    path = f"{project.id}/classes"
    label = {"class": "bird"}
    assert client.get("/manage/teach/", base_url=PUBLIC).status_code == 404
    assert post(client, path, token, PUBLIC, **label).status_code == 404
    assert post(client, path, "", **label).status_code == 403
    assert post(client, path, "0" * 48, **label).status_code == 403
    assert post(app.test_client(), path, token, **label).status_code == 403  # the token without its cookie
    assert post(client, path, token, headers=PART | {"Sec-Fetch-Site": "cross-site"}, **label).status_code == 403
    assert post(client, path, token, headers=PART | {"Origin": "http://evil.example"}, **label).status_code == 403
    assert post(client, path, token, "http://evil.example:8081", **label).status_code == 403
    assert [kind.label for kind in project.classes()] == ["cat", "dog"]
    assert post(client, path, token, **label).status_code == 200
    assert [kind.label for kind in project.classes()] == ["bird", "cat", "dog"]


@pytest.mark.parametrize("identity", ["nonesuch", "..", "%2e%2e", "0" * 12])
def test_an_unknown_project_is_not_found(client: FlaskClient, token: str, identity: str) -> None:
    assert client.get(f"/manage/teach/{identity}", base_url=MANAGEMENT).status_code in (302, 308, 404)
    assert post(client, f"{identity}/train", token).status_code in (404, 405)


def test_pictures_are_limited_and_each_refusal_has_a_reason(
    app: Flask, client: FlaskClient, token: str, project: Project
) -> None:
    limit = app.extensions["dimple"].settings.max_request_bytes
    contents = {
        "good.png": encode(draw("discs", 1), "PNG"),
        "bad.png": b"no picture",
        "many-pixels.png": encode(plain(5000, 5000), "PNG"),
        "long.jpg": b"\xff\xd8" + bytes(limit),
        "empty.png": b"",
    }
    files = [FileStorage(io.BytesIO(data), name, "file") for name, data in contents.items()]
    # as bytes: the client would leave the temporary file open in which it gathers a form of this length
    boundary, body = encode_multipart({"token": token, "class": "cat", "file": files})
    answer = client.post(
        f"/manage/teach/{project.id}/pictures",
        data=body,
        base_url=MANAGEMENT,
        content_type=f"multipart/form-data; boundary={boundary}",
    )
    assert answer.status_code == 200
    assert (answer.json["added"], answer.json["same"]) == (1, 0)
    reasons = {item["name"]: item["message"] for item in answer.json["refused"]}
    assert set(reasons) == {"bad.png", "many-pixels.png", "long.jpg", "empty.png"}
    assert "20,000,000 pixels" in reasons["many-pixels.png"]
    assert "4 MB" in reasons["long.jpg"]


def test_a_picture_is_found_only_by_its_name(client: FlaskClient, project: Project) -> None:
    project.add("cat", encode(draw("discs", 1), "PNG"), PictureLimits())
    (name,) = project.classes()[0].pictures
    address = f"/manage/teach/{project.id}/pictures"
    answer = client.get(f"{address}/{name}", base_url=MANAGEMENT)
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    for other in ("project.json", "..%2fproject.json", name.upper(), "0" * 32 + ".png"):
        assert client.get(f"{address}/{other}", base_url=MANAGEMENT).status_code == 404


def test_premature_actions_are_refused_with_the_reason(client: FlaskClient, token: str, project: Project) -> None:
    for action, reason in (("train", "cat (0), dog (0)"), ("use", "no trained model yet")):
        answer = post(client, f"{project.id}/{action}", token)
        assert answer.status_code == 400
        assert reason in answer.text
    tried = post(client, f"{project.id}/try", token, file=(io.BytesIO(b"x"), "x.png"))
    assert (tried.status_code, tried.json["type"]) == (400, "BadInput")


def test_the_name_of_another_model_is_refused(client: FlaskClient, token: str, project: Project) -> None:
    for name, reason in (("pets", "another one"), ("dogcat", "Dimple ships"), ("a b", "letters, digits")):
        page = post(client, "", token, name=name, **{"class": ["a", "b"]})
        assert page.status_code == 400
        assert reason in page.text
