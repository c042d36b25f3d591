from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from app import load_models
from app.cli.convert import quantize
from app.settings import ROOT
from tests.cli.test_predict import grey, light, make_app
from tests.conftest import CACHE
from tests.pictures import encode

needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="nncf is not installed; requirements-quantize.txt brings it"
)

ENOUGH = 130


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path / "app", shipped_models=False)


def write_pictures(folder: Path, count: int) -> Path:
    """Write pictures that are black on the left and white on the right: clearly more of the one or of the other, so
    that eight bits classify each as 32 do.
    """
    folder.mkdir()
    for number in range(count):
        pixels = np.zeros((8, 4 * count), np.uint8)
        black = number + (count if number % 2 else 2 * count)
        pixels[:, black:] = 255
        (folder / f"{number:03}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
    return folder


def run(app: Flask, *arguments: object) -> Result:
    return app.test_cli_runner().invoke(quantize, ["shade", *(str(argument) for argument in arguments)])


def shade(app: Flask) -> Path:
    return Path(app.extensions["dimple"].settings.models_dir) / "shade"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_nncf
def test_the_quantized_model_is_served_listed_and_removed(app: Flask, tmp_path: Path) -> None:
    before = everything(shade(app))
    folder = write_pictures(tmp_path / "greys", ENOUGH + 20)
    with zipfile.ZipFile(tmp_path / "greys.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    done = run(app, "--data", tmp_path / "greys.zip", "--holdout", 100)
    assert done.exit_code == 0, done.output
    assert "calls 100.00% of 100 pictures as before" in done.stdout
    assert {"int8/model.xml", "int8/model.bin", "int8/record.json"} == set(everything(shade(app))) - set(before)

    load_models(app)
    client = app.test_client()
    facts = client.get("/predict/shade").get_json()
    assert (facts["engine"], facts["precision"], facts["parity"]) == ("openvino", "int8", None)
    assert (facts["agreement"]["top1"], facts["agreement"]["samples"]) == (1, 100)
    assert facts["agreement"]["calibrated"] == 50
    assert client.get("/predict/smile").get_json()["agreement"] is None
    answer = client.post("/predict/shade", data=grey(200), content_type="image/png").get_json()
    found = {item["class"]: item["probability"] for item in answer["predictions"]}
    assert found["light"] == pytest.approx(light(200), abs=0.02)
    app.extensions["dimple"].registry.close()

    assert run(app, "--remove").exit_code == 0
    assert everything(shade(app)) == before
    assert "has no quantized network" in run(app, "--remove").stdout


@needs_nncf
@pytest.mark.parametrize("copies", [0, 60])
def test_too_few_different_pictures_are_refused_with_their_number(app: Flask, tmp_path: Path, copies: int) -> None:
    folder = write_pictures(tmp_path / "greys", 90)
    for number in range(copies):
        (folder / f"copy{number}.png").write_bytes((folder / "000.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    done = run(app, "--data", folder)
    assert done.exit_code == 1
    assert "has 90 different pictures that can be read; quantizing takes at least 130" in done.stderr
    assert "broken.png" in done.stderr
    assert not (shade(app) / "int8").exists()


@needs_nncf
def test_an_interrupted_run_leaves_nothing(app: Flask, tmp_path: Path) -> None:
    before = everything(tmp_path / "app")
    folder = write_pictures(tmp_path / "greys", ENOUGH)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
    environ |= {
        "DIMPLE_MODELS_DIR": str(shade(app).parent),
        "DIMPLE_INSTANCE_DIR": str(tmp_path / "app" / "instance"),
        "DIMPLE_CACHE_DIR": str(CACHE),
    }
    command = [sys.executable, "-m", "flask", "--app", "app", "models", "quantize", "shade", "--data", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        lines = [""]
        while not lines[-1].startswith("calibrating"):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in rest
    after = everything(tmp_path / "app")
    assert {name: data for name, data in after.items() if not name.endswith(".lock")} == before
    assert not list((shade(app)).glob(".int8*"))


def test_a_missing_nncf_is_an_error_that_says_what_to_install(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    done = run(app, "--data", write_pictures(tmp_path / "greys", 3))
    assert done.exit_code == 1
    assert "pip install -r requirements-quantize.txt" in done.stderr
    assert (ROOT / "requirements-quantize.txt").is_file()


def test_missing_pictures_are_an_error_that_names_the_option(app: Flask) -> None:
    done = run(app)
    assert done.exit_code == 2
    assert "--data" in done.stderr
