"""Archives of MXNet Model Server 0.x, with the requests of its tutorials and the replies that the tutorials show."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.formats.archive.legacy import export
from app.settings import ROOT, Settings
from tests.conftest import CACHE, running_app
from tests.formats.archive.archives import LEGACY, zipped
from tests.pictures import encode, face_crop
from tests.rounding import nearly

FACE = encode(face_crop())
INPUT = "/conv2d_1_input1"
SERVICE = """
from mms.model_service.model_service import SingleNodeService


class Service(SingleNodeService):
    def __init__(self, model_name, model_dir, manifest, gpu=None):
        super().__init__(model_name, model_dir, manifest, gpu)
        self._signature = {"inputs": [{"data_name": "data"}], "input_type": "image/jpeg"}

    def _inference(self, data):
        if bytes(data[0]) == b"say it":
            return ["in words"]
        return [[{"probability": 0.75, "class": "smiling"}, {"probability": 0.25, "class": "%d" % len(data[0])}]]
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Yield an application with three models: ``new`` is a model folder of today; ``old`` the same model, packed as 0.x
    did; ``coded`` has a service.
    """
    work = tmp_path_factory.mktemp("legacy")
    models = work / "models"
    shutil.copytree(ROOT / "models" / "smile", models / "new")
    export("old", ROOT / "models" / "smile", export_path=models)
    manifest = json.dumps(LEGACY | {"Model": LEGACY["Model"] | {"Model-Name": "coded", "Service": "service.py"}})
    zipped(models / "coded.model", {"MANIFEST.json": manifest, "service.py": SERVICE})
    settings = Settings(
        models_dir=models,
        cache_dir=CACHE,
        uploads_dir=work / "uploads",
        instance_dir=work / "instance",
        workers=1,
        shipped_models=False,
    )
    with running_app(settings) as app:
        yield app


def form(data: bytes, name: str = INPUT) -> dict[str, tuple[io.BytesIO, str]]:
    return {name: (io.BytesIO(data), "test-1.jpg")}


def test_the_old_route_answers_an_old_archive_in_the_old_format(client: FlaskClient) -> None:
    reply = client.post("/old/predict", data=form(FACE))
    assert reply.status_code == 200
    assert list(reply.json) == ["prediction"]
    ((first, second),) = reply.json["prediction"]
    assert list(first) == ["class", "probability"]
    assert (first["class"], second["class"]) == ("smiling", "non-smiling")
    assert reply.mimetype == "application/json"


def test_every_other_route_and_archive_gets_the_bare_list(client: FlaskClient) -> None:
    bare = client.post("/predictions/old", data=form(FACE)).json
    assert [item["class"] for item in bare] == ["smiling", "non-smiling"]
    (wrapped,) = client.post("/old/predict", data=form(FACE)).json["prediction"]
    assert wrapped == bare
    assert client.post("/models/old/invoke", data=form(FACE)).json == bare
    assert client.post("/new/predict", data=form(FACE)).json == nearly(bare)


def test_an_own_old_service_answers_in_the_old_format(client: FlaskClient) -> None:
    expected = [{"class": "smiling", "probability": 0.75}, {"class": str(len(FACE)), "probability": 0.25}]
    reply = client.post("/coded/predict", data=form(FACE, "data"))
    assert reply.json == {"prediction": [expected]}
    assert reply.text == json.dumps({"prediction": [expected]}, indent=2)
    assert client.post("/predictions/coded", data=form(FACE, "data")).json == expected
    assert client.post("/coded/predict", data=form(b"say it", "data")).json == {"prediction": ["in words"]}


def test_a_picture_may_be_base64_in_a_plain_field_of_an_old_request(client: FlaskClient) -> None:
    text = base64.encodebytes(FACE).decode()
    plain = client.post("/old/predict", data={INPUT: text})
    assert plain.status_code == 200
    assert plain.json == client.post("/old/predict", data=form(FACE)).json
    assert client.post("/coded/predict", data={"data": text}).json["prediction"][0][1]["class"] == str(len(FACE))
    assert client.post("/new/predict", data={INPUT: text}).status_code == 415


def test_other_text_is_passed_unchanged_to_an_old_service(client: FlaskClient) -> None:
    reply = client.post("/coded/predict", data={"data": "c21pbGU="}).json  # base64, but of no picture
    assert reply["prediction"][0][1]["class"] == str(len("c21pbGU="))


def test_an_old_archive_has_the_version_that_mms_gives_it(client: FlaskClient) -> None:
    for name in ("old", "coded"):
        described = client.get(f"/models/{name}", base_url="http://localhost:8081").json
        assert described["modelVersion"] == "snapshot"


def test_an_error_of_an_old_archive_has_the_usual_format(client: FlaskClient) -> None:
    reply = client.post("/old/predict", data=form(b"no picture"))
    assert (reply.status_code, reply.json["type"]) == (415, "BadRequestException")
