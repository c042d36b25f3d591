"""The self-test of a model, which must answer its own picture as before to be loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from app.engines.loader import load
from app.engines.selftest import FILE, check_selftest, write_selftest
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import ROOT
from tests.conftest import CACHE

# Of this part of the photograph README.md publishes the answer, to 1e-4 at least: the same face, found by the detector.
FACE = (185, 86, 260, 161)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "smile"
    shutil.copytree(ROOT / "models" / "smile", made)
    picture = tmp_path / "face.png"
    Image.open(ROOT / "static" / "astronaut.jpg").convert("RGB").crop(FACE).save(picture)
    write_selftest(open_model_folder(made), picture, "auto", CACHE)
    return made


def test_the_file_has_the_outputs_of_the_network(folder: Path) -> None:
    facts = json.loads((folder / FILE).read_text())
    assert facts["picture"] == "selftest.png" and (folder / "selftest.png").is_file()
    assert len(facts["probabilities"]) == 2 and sum(facts["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert facts["probabilities"][1] > 0.9  # it smiles


def test_the_same_network_passes(folder: Path) -> None:
    model = open_model(open_model_folder(folder), "auto", cache_dir=CACHE)
    model.engine.close()
    opened = load(open_model_folder(folder), "auto", CACHE)
    assert check_selftest(folder, opened.engine, opened.signature) == pytest.approx(0, abs=1e-6)
    opened.engine.close()


def test_a_model_without_a_picture_passes(folder: Path) -> None:
    (folder / FILE).unlink()
    opened = load(open_model_folder(folder), "auto", CACHE)
    assert check_selftest(folder, opened.engine, opened.signature) is None
    opened.engine.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"probabilities": [0.9, 0.1]}, "fails its self-test"),
        ({"probabilities": [0.5]}, "has 1 probabilities, the network has 2"),
        ({"probabilities": "no"}, "cannot be read"),
        ({"picture": "gone.png"}, "gone.png cannot be read"),
    ],
)
def test_a_model_that_fails_its_self_test_is_not_loaded(folder: Path, change: dict[str, object], reason: str) -> None:
    facts = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(facts | change))
    with pytest.raises(ModelFormatError, match=reason):
        open_model(open_model_folder(folder), "auto", cache_dir=CACHE)
