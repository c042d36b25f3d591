from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from app import create_app
from app.formats.folder import open_model_folder
from app.formats.mxnet_params import read_params
from app.serving.model import open_model
from app.settings import ROOT, Settings
from tests.helpers import wait_until
from tests.pictures import encode

DRAW = np.random.default_rng(5)
TRAIN = ("smile", "train", "--recipe", "tutorial")


def command(work: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    folders = {"DIMPLE_MODELS_DIR": str(work / "models"), "DIMPLE_INSTANCE_DIR": str(work / "instance")}
    environ = os.environ | folders | {"DIMPLE_ENGINE": "mxnet"}
    return [sys.executable, str(ROOT / "bin" / "dimple"), *arguments], environ


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    line, environ = command(work, *arguments)
    return subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)


def invoke(work: Path, *arguments: str) -> Result:
    """Run a command in this process."""
    folders = {name: work / name.removesuffix("_dir") for name in ("models_dir", "instance_dir", "uploads_dir")}
    return create_app(Settings(engine="mxnet", **folders)).test_cli_runner().invoke(args=list(arguments))


def draw_faces(folder: Path, count: int) -> Path:
    """Draw noise that is darker for class 0 and lighter for class 1."""
    for name, level in (("negatives", 90), ("positives", 150)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(level + DRAW.normal(0, 60, (32, 32)), 0, 255).astype(np.uint8)
            (folder / name / f"{name}{number}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("faces"), 140)


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a work folder after a whole training of two epochs, and what it printed."""
    work = tmp_path_factory.mktemp("work")
    done = run(work, *TRAIN, "--source", str(faces), "--epochs", "2", "--prefix", str(work / "smileCNN_model"))
    assert done.returncode == 0, done.stderr
    return work, done.stdout


def test_training_writes_a_model_folder_that_both_engines_serve_alike(trained: tuple[Path, str]) -> None:
    work, output = trained
    assert "/conv2d_1_input1" in output  # the exported input, as the tutorials' curl lines call it
    assert "1, 32, 32)" in output
    folder = work / "models" / "smile"
    models = [open_model(open_model_folder(folder), engine) for engine in ("mxnet", "keras")]
    assert [model.kind for model in models] == ["mxnet", "keras"]
    assert models[0].labels == ("non-smiling", "smiling")
    batch = DRAW.random((4, 1, 32, 32), dtype=np.float32)
    assert models[0].probabilities(batch) == pytest.approx(models[1].probabilities(batch), abs=1e-5)


def test_the_files_of_the_network_may_have_the_names_of_the_tutorial(trained: tuple[Path, str]) -> None:
    work, output = trained
    for name in ("-symbol.json", "-0000.params", ".h5"):
        copy = work / f"smileCNN_model{name}"
        assert copy.read_bytes() == (work / "models" / "smile" / f"smile{name}").read_bytes()
        assert str(copy) in output.splitlines()


def test_a_prefix_in_a_missing_folder_is_an_error_before_training(tmp_path: Path) -> None:
    done = invoke(tmp_path, *TRAIN, "--prefix", str(tmp_path / "nowhere" / "net"))
    assert done.exit_code == 1
    assert f"there is no folder {tmp_path}/nowhere" in done.stderr


def test_the_metrics_are_computed_from_held_out_pictures(trained: tuple[Path, str]) -> None:
    metrics = json.loads((trained[0] / "models" / "smile" / "metrics.json").read_text())
    assert metrics["n"] == metrics["pictures"]["test"] == sum(map(sum, metrics["confusion"])) > 20
    assert sum(metrics["pictures"].values()) == 280
    assert (metrics["recipe"], metrics["epochs"], metrics["seed"]) == ("tutorial", 2, 1)
    right = sum(row[number] for number, row in enumerate(metrics["confusion"]))
    assert metrics["accuracy"] == pytest.approx(right / metrics["n"])
    with Image.open(trained[0] / "models" / "smile" / "learning-curves.png") as curves:
        assert curves.format == "PNG"


def test_evaluation_reproduces_the_metrics_of_training(trained: tuple[Path, str]) -> None:
    done = invoke(trained[0], "smile", "evaluate")
    assert done.exit_code == 0, done.stderr
    report = trained[0] / "instance" / "reports" / "smile"
    found, known = (
        json.loads((folder / "metrics.json").read_text()) for folder in (report, trained[0] / "models/smile")
    )
    assert found["confusion"] == known["confusion"]
    assert found["roc_auc"] == pytest.approx(known["roc_auc"], abs=1e-6)
    assert f"{known['accuracy']:.4f}" in done.stdout
    assert {"roc.png", "confusion.png", "mistakes.png"} <= {path.name for path in report.iterdir()}


def test_all_pictures_of_another_data_set_are_evaluated(trained: tuple[Path, str], tmp_path: Path) -> None:
    done = invoke(trained[0], "smile", "evaluate", "--data", str(draw_faces(tmp_path / "others", 30)))
    assert done.exit_code == 0, done.stderr
    assert "pictures           60" in done.stdout


def test_one_picture_gets_the_line_of_the_tutorial(trained: tuple[Path, str], faces: Path) -> None:
    done = invoke(trained[0], "smile", "evaluate", "--data", str(faces / "positives" / "positives0.png"))
    assert done.exit_code == 0, done.stderr
    left, line, right = done.stdout.split()[:3]
    assert (left, right) == ("non-smiling", "smiling")
    assert len(line) == 28
    assert line.count("#") == 3


def test_a_killed_training_changes_no_model_and_resumes_to_the_same_weights(
    trained: tuple[Path, str], faces: Path, tmp_path: Path
) -> None:
    line, environ = command(tmp_path, *TRAIN, "--source", str(faces), "--epochs", "2")
    state = tmp_path / "instance" / "training" / "smile-tutorial-state.npz"
    old = tmp_path / "models" / "smile"
    old.mkdir(parents=True)
    (old / "kept").write_text("the model that was there before")
    process = subprocess.Popen(line, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: state.exists() or process.poll() is not None, seconds=300)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()
    assert (old / "kept").exists()

    done = run(tmp_path, *TRAIN, "--epochs", "2", "--resume")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/2" not in done.stderr
    resumed, unbroken = (
        read_params(work / "models" / "smile" / "smile-0000.params") for work in (tmp_path, trained[0])
    )
    assert resumed.keys() == unbroken.keys()
    for name, array in unbroken.items():
        assert np.array_equal(array, resumed[name]), name


def test_too_few_pictures_are_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = invoke(tmp_path, *TRAIN, "--source", str(draw_faces(tmp_path / "data", 30)))
    assert done.exit_code == 1
    assert "128" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_of_another_kind_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"no zip")
    done = invoke(tmp_path, "dogcat", "train", "--source", str(tmp_path / "data.zip"))
    assert done.exit_code == 1
    assert "data.zip" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate"])
def test_each_command_without_pictures_names_the_missing_option(tmp_path: Path, verb: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dogcat").symlink_to(ROOT / "models" / "dogcat")
    done = invoke(tmp_path, "dogcat", verb)
    assert done.exit_code == 1
    assert "--source" in done.stderr or "--data" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_are_listed_without_loading_a_model(tmp_path: Path) -> None:
    _, environ = command(tmp_path)
    line = [sys.executable, "-m", "flask", "--app", "app", "--help"]
    done = subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert {"smile", "dogcat", "models", "predict"} <= set(done.stdout.split())
    assert not (tmp_path / "models").exists()
