"""Published checkpoints, put unchanged into a models folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.serving.pipeline import classify
from app.serving.registry import Registry
from app.settings import ROOT, PictureLimits, Settings
from app.types import Prediction
from tests.conftest import CACHE

SHARED = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published checkpoints are not beside this checkout")


def best_of(work: Path, name: str, picture: str) -> Prediction:
    models = work / "models"
    shutil.copytree(SHARED / name, models / name)
    registry = Registry(Settings(models_dir=models, instance_dir=work / "instance", cache_dir=CACHE))
    registry.start()
    with registry.acquire_builtin(name) as model:
        found = classify(model, (SHARED / "images" / picture).read_bytes(), PictureLimits()).predictions[0]
    registry.close()
    return found


@pytest.mark.parametrize("picture", [pytest.param("kitten.jpg", marks=pytest.mark.slow), "kitten_small.jpg"])
def test_squeezenet_answers_tabby_as_published(tmp_path: Path, picture: str) -> None:
    # published with the data: tabby 0.57 for both, by bilinear stretch to 227 x 227
    found = best_of(tmp_path, "squeezenet_v1.0", picture)
    assert "tabby" in found.label
    assert found.probability == pytest.approx(0.57, abs=0.01)


def test_a_cifar_network_without_labels_answers_cat(tmp_path: Path) -> None:
    # CIFAR-10's classes are in alphabetical order: airplane, automobile, bird, cat
    assert best_of(tmp_path, "cifar_resnet20_v1", "kitten.jpg").label == "3"
