from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import ROOT
from tests.pictures import encode

DRAW = np.random.default_rng(5)


def flask(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"DIMPLE_MODELS_DIR": str(work / "models"), "DIMPLE_INSTANCE_DIR": str(work / "instance")}
    command = [sys.executable, "-m", "flask", "--app", "app", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)


def draw_faces(folder: Path, count: int) -> None:
    """Noise that is darker for class 0 and lighter for class 1."""
    for name, level in (("negatives", 40), ("positives", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = (level + DRAW.integers(-30, 30, (32, 32))).astype(np.uint8)
            (folder / name / f"{name}{number}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))


def test_training_writes_a_model_folder_that_is_served_the_same_by_both_engines(tmp_path: Path) -> None:
    draw_faces(tmp_path / "data", 220)
    done = flask(tmp_path, "smile", "train", "--source", str(tmp_path / "data"), "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "/conv2d_1_input1" in done.stdout  # the exported input, as the tutorials' curl lines call it
    folder = tmp_path / "models" / "smile"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n"] == sum(map(sum, metrics["confusion"])) > 20
    models = [open_model(open_model_folder(folder), engine) for engine in ("mxnet", "keras")]
    assert [model.kind for model in models] == ["mxnet", "keras"]
    assert models[0].labels == ("non-smiling", "smiling")
    batch = DRAW.random((4, 1, 32, 32), dtype=np.float32)
    assert models[0].probabilities(batch) == pytest.approx(models[1].probabilities(batch), abs=1e-5)


def test_too_few_pictures_are_an_error_and_no_trace(tmp_path: Path) -> None:
    draw_faces(tmp_path / "data", 30)
    done = flask(tmp_path, "smile", "train", "--source", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "128" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_of_another_kind_is_an_error_and_no_trace(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"no zip")
    done = flask(tmp_path, "dogcat", "train", "--source", str(tmp_path / "data.zip"))
    assert done.returncode == 1
    assert "data.zip" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_are_listed_without_loading_a_model(tmp_path: Path) -> None:
    done = flask(tmp_path, "--help")
    assert "smile" in done.stdout
    assert "dogcat" in done.stdout
    assert not (tmp_path / "models").exists()
