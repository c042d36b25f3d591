"""``dimple rescue`` and ``dimple prove``, on real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from app import create_app
from app.cli.rescue import prove, rescue
from app.engines.openvino import OpenvinoEngine
from app.settings import ROOT, Settings
from app.utils.files import sha256_file
from tests.conftest import CACHE

TESTDATA = ROOT / "tests" / "testdata"
KERAS_FILE = TESTDATA / "tf215_teachable.h5"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def app(models: Path, tmp_path: Path) -> Flask:
    return create_app(
        Settings(models_dir=models, uploads_dir=tmp_path / "up", instance_dir=tmp_path / "instance", cache_dir=CACHE)
    )


def run(app: Flask, command: object, *arguments: object) -> Result:
    return app.test_cli_runner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


def test_a_keras_file_becomes_a_proven_portable_model(app: Flask, models: Path) -> None:
    done = run(app, rescue, KERAS_FILE, "--name", "poses")
    assert done.exit_code == 0, done.output
    folder = models / "poses"
    proof = json.loads((folder / "proof.json").read_text())
    assert proof["source"] == {"poses.h5": sha256_file(KERAS_FILE)}
    assert {name: sha256_file(folder / name) for name in proof["result"]} == proof["result"]
    for comparison in (proof["converted"], proof["onnx"]):
        assert comparison["reference"]["name"] == "mxnet"  # it was saved over TensorFlow
        assert (comparison["inputs"], comparison["same_class"]) == (14, 14)
        assert comparison["max_abs_difference"] < 1e-5
    inferred = json.loads((folder / "signature.json").read_text())["inferred"]
    found = {part: inferred[part]["confidence"] for part in inferred}
    assert found == {"input": "stated", "pixels": "assumed", "output": "derived", "labels": "assumed"}

    facts = json.loads(KERAS_FILE.with_suffix(".json").read_text())
    engine = OpenvinoEngine.load(folder / "converted" / "model.xml", 1.0)
    assert engine.predict(np.array(facts["pictures"], np.float32)) == pytest.approx(
        np.array(facts["answers"]), abs=1e-5
    )

    with Image.open(folder / "model-card.png") as picture:
        assert picture.format == "PNG" and len(picture.getcolors(2**24) or ()) > 1000
    card = (folder / "model-card.md").read_text()
    assert sha256_file(KERAS_FILE) in card and "of them get the same class" in card
    assert "\nOpenVINO   proven: a probability differs by" in done.output
    assert len(done.output.splitlines()) <= 30 and max(map(len, done.output.split("\n\n")[1].splitlines())) <= 120

    again = run(app, prove, "poses")
    assert again.exit_code == 0 and again.output.startswith("poses: proven\n")
    assert again.output.count("14 of 14 inputs get the same class") == 2


def test_a_changed_file_is_no_longer_proven(app: Flask, models: Path) -> None:
    assert run(app, rescue, KERAS_FILE, "--name", "poses").exit_code == 0
    weights = models / "poses" / "converted" / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0x40
    weights.write_bytes(content)
    done = run(app, prove, "poses")
    assert done.exit_code == 1
    assert done.output.startswith("poses: NOT proven\n") and "changed: converted/model.bin" in done.output


def test_the_stored_outputs_prove_a_model_if_its_source_is_gone(app: Flask, models: Path) -> None:
    assert run(app, rescue, ROOT / "models" / "smile").exit_code == 0
    answers = models / "smile" / "converted" / "answers.npy"
    np.save(answers, 1 - np.load(answers))
    done = run(app, prove, "smile")
    assert done.exit_code == 1 and "stored     DIFFERENT" in done.output and "now        proven" in done.output


def test_a_rescued_folder_keeps_its_files_and_a_missing_proof_is_reported(app: Flask, models: Path) -> None:
    assert run(app, rescue, ROOT / "models" / "smile").exit_code == 0
    for file in (ROOT / "models" / "smile").glob("*.json"):
        if file.name not in ("signature.json", "proof.json"):
            assert (models / "smile" / file.name).read_bytes() == file.read_bytes()
    stated = json.loads((models / "smile" / "signature.json").read_text())
    shipped = json.loads((ROOT / "models" / "smile" / "signature.json").read_text())
    assert stated["preprocess"] == shipped["preprocess"]
    (models / "smile" / "proof.json").unlink()
    done = run(app, prove, "smile")
    assert done.exit_code == 1 and "has no proof: make it with dimple rescue" in done.output


@pytest.mark.parametrize(
    ("model", "folders", "note"),
    [
        (
            "smile",
            ("this", "that"),
            "no label is named that, this: so the pictures count as unlabelled. The labels are non-smiling, smiling",
        ),
        pytest.param(
            "dogcat",
            ("cats", "dogs", "owls"),
            "no label is named owls: their pictures are left out. The labels are cat, dog",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_folders_without_a_label_are_reported_and_a_path_can_be_proven(
    app: Flask, tmp_path: Path, model: str, folders: tuple[str, ...], note: str
) -> None:
    draw = np.random.default_rng(1)
    for number in range(12):
        folder = tmp_path / "pictures" / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (160, 170, 3), np.uint8)).save(folder / f"{number}.png")
    elsewhere = tmp_path / "elsewhere"
    done = run(app, rescue, ROOT / "models" / model, "--to", elsewhere, "--with", tmp_path / "pictures")
    assert done.exit_code == 0 and f"warning   {note}" in done.output
    assert ("without labels" in done.output) == ("unlabelled" in note)
    assert f"prove {elsewhere}\n" in done.output
    assert run(app, prove, elsewhere).exit_code == 0


@pytest.mark.slow
def test_an_archive_is_rescued_as_its_folder_is(app: Flask, models: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "cats.mar", "w") as archive:
        for file in sorted((ROOT / "models" / "dogcat").rglob("*")):
            if file.is_file() and file.suffix != ".png":
                archive.write(file, file.relative_to(ROOT / "models" / "dogcat"))
    done = run(app, rescue, tmp_path / "cats.mar")
    assert done.exit_code == 0, done.output
    assert run(app, prove, "cats").exit_code == 0


def test_nothing_appears_if_a_file_cannot_be_rescued(app: Flask, models: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    done = run(app, rescue, tmp_path / "broken.h5")
    assert done.exit_code == 1 and "broken.h5" in done.output and "Traceback" not in done.output
    assert list(models.iterdir()) == []
    assert run(app, rescue, ROOT / "models" / "dogcat", "--scale", "1").exit_code == 2


@pytest.mark.slow
def test_an_archive_of_sagemaker_states_its_input_in_a_file(app: Flask, models: Path, tmp_path: Path) -> None:
    import tarfile

    smile, inside = ROOT / "models" / "smile", tmp_path / "inside"
    inside.mkdir()
    (inside / "model-symbol.json").write_bytes((smile / "smile-symbol.json").read_bytes())
    (inside / "model-0000.params").write_bytes((smile / "smile-0000.params").read_bytes())
    shapes = [{"name": "/conv2d_1_input1", "shape": [1, 1, 64, 64]}]
    (inside / "model-shapes.json").write_text(json.dumps(shapes))
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        for file in sorted(inside.iterdir()):
            archive.add(file, file.name)
    done = run(app, rescue, tmp_path / "model.tar.gz", "--name", "smiles")
    assert done.exit_code == 0, done.output
    written = json.loads((models / "smiles" / "signature.json").read_text())
    assert written["inputs"] == [{"data_name": "/conv2d_1_input1", "data_shape": [0, 1, 64, 64]}]
    (inside / "model-shapes.json").write_text("[]")
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        for file in sorted(inside.iterdir()):
            archive.add(file, file.name)
    done = run(app, rescue, tmp_path / "bad.tar.gz")
    assert done.exit_code == 1 and "must list one input with its name and shape" in done.output
