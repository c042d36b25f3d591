"""The environment of SageMaker's containers, and the servers that are started from it."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingError
from app.server.sagemaker import launch
from app.settings import ROOT
from tests.conftest import START_SECONDS
from tests.helpers import wait_until
from tests.server.servers import PICTURE, Place, place

PORTS = "SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as here:
        yield here


def settings(environ: Mapping[str, str], is_model: bool = True) -> Mapping[str, str]:
    return launch(environ, Path("/instance"), is_model).environ


def test_inference_uses_the_port_of_sagemaker_and_management_a_free_safe_port() -> None:
    environ = settings({PORTS[0]: "9100", PORTS[1]: "9100-9120"})
    assert (environ["DIMPLE_HOST"], environ["DIMPLE_PORT"]) == ("0.0.0.0", "9100")
    assert (environ["DIMPLE_MANAGEMENT_HOST"], environ["DIMPLE_MANAGEMENT_PORT"]) == ("127.0.0.1", "9101")
    assert environ["DIMPLE_MANAGEMENT_WITHOUT_TOKEN"] == "false"
    assert settings({})["DIMPLE_PORT"] == "8080"
    assert settings({PORTS[0]: "8081"})["DIMPLE_MANAGEMENT_PORT"] == "8082"


def test_the_model_is_read_from_the_folder_of_sagemaker() -> None:
    assert settings({})["DIMPLE_LOAD_MODELS"] == "/opt/ml/model"
    assert settings({"SAGEMAKER_BASE_DIR": "/x"})["DIMPLE_LOAD_MODELS"] == "/x/model"
    assert settings({"SAGEMAKER_MODEL_STORE": "/y"})["DIMPLE_LOAD_MODELS"] == "/y"


def test_all_models_of_the_folder_are_served_or_else_the_own_models(tmp_path: Path) -> None:
    environ = settings({"SAGEMAKER_MODEL_STORE": str(tmp_path)}, is_model=False)
    assert (environ["DIMPLE_MODELS_DIR"], environ["DIMPLE_LOAD_MODELS"]) == (str(tmp_path), "ALL")
    environ = settings({"SAGEMAKER_MODEL_STORE": str(tmp_path / "none")}, is_model=False)
    assert not {"DIMPLE_MODELS_DIR", "DIMPLE_LOAD_MODELS"} & set(environ)


def test_a_multi_model_endpoint_has_one_port_and_a_worker_per_model() -> None:
    environ = settings({"SAGEMAKER_MULTI_MODEL": "true", PORTS[0]: "9100"}, is_model=False)
    assert environ["DIMPLE_MANAGEMENT_PORT"] == environ["DIMPLE_PORT"] == "9100"
    assert environ["DIMPLE_MANAGEMENT_HOST"] == environ["DIMPLE_HOST"]
    assert (environ["DIMPLE_MODELS_DIR"], environ["DIMPLE_LOAD_MODELS"]) == ("/", "NONE")
    assert environ["DIMPLE_DEFAULT_WORKERS_PER_MODEL"] == "1"
    environ = settings({"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}, is_model=False)
    assert environ["DIMPLE_DEFAULT_WORKERS_PER_MODEL"] == "3"


def test_settings_of_dimple_take_precedence_over_those_of_sagemaker() -> None:
    environ = settings(
        {"DIMPLE_MAX_REQUEST_BYTES": "7", "SAGEMAKER_MAX_REQUEST_SIZE": "9", "DIMPLE_PING_STATUS": "false"}
    )
    assert (environ["DIMPLE_MAX_REQUEST_BYTES"], environ["DIMPLE_PING_STATUS"]) == ("7", "false")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (PORTS[0], "http"),
        (PORTS[0], "0"),
        (PORTS[0], "70000"),
        (PORTS[1], "9000"),
        (PORTS[1], "9001-9000"),
        (PORTS[1], "8080-8080"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "many"),
    ],
)
def test_an_invalid_value_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name}='{value}'"):
        settings({name: value})


class Container:
    """A container as SageMaker sees it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    def ask(self, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        body = data if isinstance(data, bytes | None) else json.dumps(data).encode()
        environ = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, environ, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait(self) -> int:
        """Return the status of the first ping that is answered."""
        return wait_until(self._ping, 0.05, START_SECONDS, self.log.read_text)

    def _ping(self) -> int:
        assert self.process.poll() is None, f"the container has ended:\n{self.log.read_text()}"
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return self.ask("GET", "/ping")[0]
        return 0


@contextmanager
def container(here: Place, **environ: str) -> Iterator[Container]:
    """Run ``bin/serve`` as ``docker run IMAGE serve`` starts it; SIGTERM ends it."""
    log = here.folder / "container.log"
    environ = (
        here.environ | {PORTS[0]: str(here.port), PORTS[1]: f"{here.management_port}-{here.management_port}"} | environ
    )
    with log.open("wb") as out:
        process = subprocess.Popen(
            [ROOT / "bin" / "serve"], cwd=here.folder, env=environ, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield Container(here.port, process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait(timeout=60)


def test_an_endpoint_with_one_model_answers(here: Place) -> None:
    (here.folder / "ml").mkdir()
    (here.store / "smile").rename(here.folder / "ml" / "model")
    with container(here, SAGEMAKER_BASE_DIR=str(here.folder / "ml")) as endpoint:
        assert endpoint.wait() == 200
        status, answer = endpoint.ask("POST", "/invocations", PICTURE.read_bytes(), Content_Type="image/jpeg")
        assert (status, answer[0]["class"]) == (200, "smiling")
        status, answers = endpoint.ask("POST", "/invocations", [[0] * 4096], Content_Type="application/json")
        assert (status, len(answers)) == (200, 1)
        assert endpoint.ask("GET", "/models")[0] == 404  # who may predict may not manage


def test_an_endpoint_with_a_broken_model_stays_unavailable(here: Place) -> None:
    model = here.store / "smile"
    (model / "smile-0000.params").write_bytes(b"no parameters")
    with container(here, SAGEMAKER_MODEL_STORE=str(model)) as endpoint:
        assert endpoint.wait() == 503


def test_an_endpoint_with_many_models_fulfils_the_contract(here: Place) -> None:
    url = str(here.store / "smile")
    environ = {"model_name": "0123abcd", "url": url}
    with container(here, SAGEMAKER_MULTI_MODEL="true") as endpoint:
        assert endpoint.wait() == 200
        assert endpoint.ask("GET", "/models") == (200, {"models": []})
        assert endpoint.ask("POST", "/models/0123abcd/invoke", b"x")[0] == 404
        assert endpoint.ask("GET", "/models/0123abcd")[0] == 404
        assert endpoint.ask("DELETE", "/models/0123abcd")[0] == 404
        assert endpoint.ask("POST", "/models", environ, Content_Type="application/json")[0] == 200
        assert endpoint.ask("POST", "/models", environ, Content_Type="application/json")[0] == 409
        assert endpoint.ask("GET", "/models") == (200, {"models": [{"modelName": "0123abcd", "modelUrl": url}]})
        status, described = endpoint.ask("GET", "/models/0123abcd")
        assert (status, described["modelName"], described["modelUrl"]) == (200, "0123abcd", url)
        headers = {"Content_Type": "image/jpeg", "X_Amzn_SageMaker_Target_Model": "smile.tar.gz"}
        status, answer = endpoint.ask("POST", "/models/0123abcd/invoke", PICTURE.read_bytes(), **headers)
        assert (status, answer[0]["class"]) == (200, "smiling")
        assert endpoint.ask("DELETE", "/models/0123abcd")[0] == 200
        assert endpoint.ask("DELETE", "/models/0123abcd")[0] == 404
        assert endpoint.ask("POST", "/models/0123abcd/invoke", PICTURE.read_bytes(), **headers)[0] == 404


def test_a_container_with_an_invalid_port_reports_the_setting(here: Place) -> None:
    done = here.run("serve", SAGEMAKER_BIND_TO_PORT="none")
    assert done.returncode == 1
    assert done.stderr.startswith("The setting SAGEMAKER_BIND_TO_PORT='none'")
