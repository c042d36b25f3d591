from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from app import create_app
from app.cli.train import train as command
from app.errors import BadInput
from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import PictureLimits, Settings
from app.vision.decode import decode
from tests.conftest import CACHE
from tests.pictures import unreadable
from tests.training.transfer.shapes import CLASSES, write_shapes


def train(models_dir: Path, *arguments: object) -> Result:
    settings = Settings(
        models_dir=models_dir,
        instance_dir=models_dir.parent / "instance",
        uploads_dir=models_dir.parent / "uploads",
        cache_dir=CACHE,
        port=8123,
    )
    return create_app(settings).test_cli_runner().invoke(command, [str(argument) for argument in arguments])


def failure(done: Result) -> str:
    """Return the one line of a command that failed."""
    assert done.exit_code == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with training pictures, in which the first test trains."""
    work = tmp_path_factory.mktemp("work")
    write_shapes(work / "shapes")
    (work / "shapes" / "noise" / "broken.jpg").write_bytes(b"no picture")
    for name, data in unreadable().items():
        (work / "shapes" / "noise" / name).write_bytes(data)
    return work


@pytest.fixture(scope="module")
def first(work: Path) -> Result:
    return train(work / "models", "shapes", work / "shapes", "--folds", 2, "--seed", 7)


def test_train_writes_a_servable_model_and_reports_its_accuracy(work: Path, first: Result) -> None:
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [["class", "n"], *([kind, "8"] for kind in CLASSES)]
    metrics = json.loads((work / "models" / "shapes" / "metrics.json").read_text())
    assert f"accuracy {metrics['accuracy']:.4f} ± " in first.stdout
    assert metrics["seed"] == 7
    assert "curl -F file=@picture.jpg http://localhost:8123/predict/shapes" in first.stdout
    assert "skipped: noise/broken.jpg" in first.stderr
    for name, data in unreadable().items():
        with pytest.raises(BadInput) as refused:
            decode(data, PictureLimits())
        assert f"skipped: noise/{name}: {refused.value}" in first.stderr
    assert f"could not be read: {1 + len(unreadable())}\n" in first.stdout
    model = open_model(open_model_folder(work / "models" / "shapes"), "auto")
    assert model.labels == CLASSES
    model.engine.close()


def test_train_replaces_only_models_of_its_own(work: Path, first: Result) -> None:
    folder = work / "models" / "shapes"
    before = (folder / "shapes-0000.params").read_bytes()
    again = train(work / "models", "shapes", work / "shapes", "--folds", 2, "--seed", 7)
    assert again.exit_code == 0, again.stderr
    assert (folder / "shapes-0000.params").read_bytes() == before
    (folder / "metrics.json").unlink()
    assert "--force" in failure(train(work / "models", "shapes", work / "shapes"))
    assert (folder / "shapes-0000.params").read_bytes() == before


def test_invalid_names_missing_folders_and_single_classes_are_one_line_errors(work: Path, first: Result) -> None:
    models = work / "models"
    assert "'dogcat'" in failure(train(models, "dogcat", work / "shapes", "--force"))
    assert "nowhere" in failure(train(models, "new", work / "nowhere"))
    assert "one class only, 'discs'" in failure(train(models, "new", write_shapes(work / "one", classes=("discs",))))
    assert not (models / "new").exists()


@pytest.mark.slow
def test_train_compares_with_another_model_on_the_same_images(work: Path, first: Result) -> None:
    options = ("--folds", 2, "--against", "shapes", "--predictions", work / "held-out.json", "--output", work / "other")
    done = train(work / "models", "rival", work / "shapes", *options, "--progress", work / "progress.json")
    assert done.exit_code == 0, done.stderr
    assert (work / "other" / "rival" / "metrics.json").is_file()
    assert not (work / "models" / "rival").exists()
    written = json.loads((work / "held-out.json").read_text())
    metrics = json.loads((work / "other" / "rival" / "metrics.json").read_text())
    right = sum(picture["class"] == picture["predicted"] for picture in written["pictures"])
    assert right / len(written["pictures"]) == metrics["accuracy"]
    earlier = written["earlier"]
    assert (earlier["model"], earlier["n"]) == ("shapes", 24)
    assert earlier["accuracy"] == (right + len(earlier["broken"]) - len(earlier["fixed"])) / 24
    assert json.loads((work / "progress.json").read_text())["title"] == "finished"
