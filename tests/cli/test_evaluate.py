from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from app import load_models
from app.cli.evaluate import evaluate
from app.cli.predict import predict
from app.settings import ROOT
from tests.cli.test_predict import grey, light, make_app
from tests.pictures import astronaut, encode, face_crop, unreadable


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path / "app")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return five pictures in two folders. One light picture is darker than the middle, so it is called dark."""
    for name, levels in (("dark", (0, 60)), ("light", (100, 200, 255))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for level in levels:
            (tmp_path / "pictures" / name / f"{level}.png").write_bytes(grey(level))
    return tmp_path / "pictures"


def run(app: Flask, *arguments: object) -> Result:
    return app.test_cli_runner().invoke(evaluate, [str(argument) for argument in arguments])


def report_of(app: Flask, name: str = "shade") -> Path:
    return Path(app.extensions["dimple"].settings.instance_dir) / "reports" / name


def test_the_figures_are_printed_and_the_report_is_written(app: Flask, pictures: Path) -> None:
    done = run(app, "shade", pictures)
    assert done.exit_code == 0, done.output
    assert str(report_of(app)) in done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["accuracy"][1] == "0.8000"
    assert lines["light"][1:] == ["1.0000", "0.6667", "0.8000", "3"]
    metrics = json.loads((report_of(app) / "metrics.json").read_text())
    assert metrics["model"] == "shade"
    assert metrics["skipped"] == 0
    assert metrics["confusion"] == [[2, 0], [1, 2]]
    assert metrics["roc_auc"] == 1
    true = [1 - light(0), 1 - light(60), light(100), light(200), light(255)]
    assert metrics["log_loss"] == pytest.approx(-np.log(true).mean(), abs=1e-5)
    with Image.open(report_of(app) / "mistakes.png") as sheet:
        assert ((np.asarray(sheet) == 100).all(axis=2)).sum() > 1000  # the picture of grey 100
    for name in ("roc.png", "confusion.png", "reliability.png"):
        with Image.open(report_of(app) / name) as image:
            assert image.format == "PNG"


def test_only_the_report_and_a_cache_are_written(app: Flask, pictures: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    run(app, "shade", pictures)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    written = {path.relative_to(tmp_path / "app" / "instance").parts[0] for path in after - before}
    assert written <= {"reports", "matplotlib"}


@pytest.mark.slow
def test_a_zip_gives_the_same_results_as_its_folder(app: Flask, pictures: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in pictures.rglob("*.png"):
            archive.write(path, Path("top") / path.relative_to(pictures))
    figures = [run(app, "shade", source).stdout.splitlines()[:8] for source in (pictures, tmp_path / "all.zip")]
    assert len(figures[0]) == 8
    assert figures[0] == figures[1]


def test_unreadable_pictures_are_named_counted_and_skipped(app: Flask, pictures: Path) -> None:
    (pictures / "dark" / "bad.jpg").write_bytes(b"no picture")
    (pictures / "light" / "empty.png").touch()
    done = run(app, "shade", pictures)
    assert done.exit_code == 0
    assert "dark/bad.jpg" in done.stderr
    assert "light/empty.png" in done.stderr
    assert "2 of 7" in done.stderr
    metrics = json.loads((report_of(app) / "metrics.json").read_text())
    assert (metrics["n"], metrics["skipped"]) == (5, 2)


def test_the_commands_report_unreadable_files_with_the_servers_messages(tmp_path: Path, pictures: Path) -> None:
    app = make_app(tmp_path / "app", shipped_models=False)
    load_models(app)
    client = app.test_client()
    messages = {}
    for name, data in unreadable().items():
        (pictures / "dark" / name).write_bytes(data)
        answer = client.post("/predict/shade", data=data)
        assert answer.status_code in (413, 415)
        messages[name] = answer.json["message"]
    assert len(set(messages.values())) == len(messages)
    evaluated = run(app, "shade", pictures).stderr.splitlines()
    predicted = app.test_cli_runner().invoke(predict, ["shade", str(pictures)]).stderr.splitlines()
    for name, message in messages.items():
        assert f"skipped: dark/{name}: {message}" in evaluated
        assert f"{pictures}/dark/{name}: {message}" in predicted


def test_a_source_without_readable_pictures_is_an_error(app: Flask, tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "none" / name).mkdir(parents=True)
    assert run(app, "shade", tmp_path / "none").exit_code == 1
    (tmp_path / "none" / "dark" / "bad.jpg").write_bytes(b"no picture")
    done = run(app, "shade", tmp_path / "none")
    assert done.exit_code == 1
    assert "none of its 1 " in done.stderr
    assert not report_of(app).exists()


def test_an_unknown_folder_is_an_error_until_it_is_mapped(app: Flask, pictures: Path) -> None:
    (pictures / "light").rename(pictures / "bright")
    done = run(app, "shade", pictures)
    assert done.exit_code == 1
    assert "'bright'" in done.stderr
    assert "dark, light" in done.stderr
    done = run(app, "shade", pictures, "--classes", "bright=light")
    assert done.exit_code == 0, done.output
    assert json.loads((report_of(app) / "metrics.json").read_text())["confusion"] == [[2, 0], [1, 2]]


@pytest.mark.parametrize("text", ["bright", "=light", "bright="])
def test_a_mapping_without_both_sides_is_a_usage_error(app: Flask, pictures: Path, text: str) -> None:
    done = run(app, "shade", pictures, "--classes", text)
    assert done.exit_code == 2
    assert "FOLDER=LABEL" in done.stderr


def test_pictures_outside_of_any_folder_are_an_error(app: Flask, pictures: Path) -> None:
    (pictures / "loose.png").write_bytes(grey(0))
    done = run(app, "shade", pictures)
    assert done.exit_code == 1
    assert "loose.png" in done.stderr


def test_an_unknown_model_is_an_error_that_lists_the_existing_models(app: Flask, pictures: Path) -> None:
    done = run(app, "shadow", pictures)
    assert done.exit_code == 1
    assert "There are: broken, imagenet, shade, smile." in done.stderr


def test_duplicate_labels_are_an_error(app: Flask, pictures: Path) -> None:
    models = Path(app.extensions["dimple"].settings.models_dir)
    shutil.copytree(models / "shade", models / "twins")
    (models / "twins" / "synset.txt").write_text("same\nsame\n")
    for folder in ("dark", "light"):
        (pictures / folder).rename(pictures / f"{folder}s")
    done = run(app, "twins", pictures, "--classes", "darks=same", "--classes", "lights=same")
    assert done.exit_code == 1
    assert "synset.txt" in done.stderr


def test_a_report_that_cannot_be_written_is_an_error_after_the_figures(app: Flask, pictures: Path) -> None:
    instance = Path(app.extensions["dimple"].settings.instance_dir)
    instance.write_text("a file where the folder should be")
    done = run(app, "shade", pictures)
    assert done.exit_code == 1
    assert "0.8000" in done.stdout
    assert f"DIMPLE_INSTANCE_DIR='{instance}'" in done.stderr
    assert "Traceback" not in done.output


def test_faces_are_detected_as_in_serving(app: Flask, tmp_path: Path) -> None:
    # The README's answer: the astronaut's face smiles at 0.9999. The whole photograph, taken at once, has no such say:
    # so the picture is all but certain only if the face is searched for.
    (tmp_path / "faces" / "smiling").mkdir(parents=True)
    (tmp_path / "faces" / "smiling" / "photograph.jpg").write_bytes((ROOT / "static" / "astronaut.jpg").read_bytes())
    (tmp_path / "faces" / "smiling" / "crop.png").write_bytes(encode(face_crop(), "PNG"))
    (tmp_path / "faces" / "smiling" / "large.png").write_bytes(encode(astronaut(), "PNG"))
    done = run(app, "smile", tmp_path / "faces")
    assert done.exit_code == 0, done.output
    metrics = json.loads((report_of(app, "smile") / "metrics.json").read_text())
    assert metrics["confusion"] == [[0, 0], [0, 3]]
    assert metrics["log_loss"] < 0.1
    assert metrics["roc_auc"] is None
    assert not (report_of(app, "smile") / "roc.png").exists()


def test_imagenet_is_built_if_missing_and_matches_folders_by_name(app: Flask, tmp_path: Path) -> None:
    kitten = ROOT.parent / "shared" / "data" / "images" / "kitten.jpg"
    if not kitten.is_file():
        pytest.skip("the published pictures are not beside this checkout")
    (tmp_path / "cats" / "tabby").mkdir(parents=True)
    (tmp_path / "cats" / "n02124075").mkdir(parents=True)
    shutil.copy(kitten, tmp_path / "cats" / "tabby")
    done = run(app, "imagenet", tmp_path / "cats")
    assert done.exit_code == 0, done.output
    metrics = json.loads((report_of(app, "imagenet") / "metrics.json").read_text())
    assert metrics["confusion"][281].index(1) in range(281, 286)  # the cats among ImageNet's classes
    assert sum(map(sum, metrics["confusion"])) == 1
