"""The tensors of training and serving, equal to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.formats.folder import open_model_folder
from app.serving import pipeline
from app.serving.model import open_model
from app.serving.pipeline import open_picture
from app.settings import PictureLimits
from app.training.datasets import prepare
from app.training.recipes import TRAINING_TASKS
from tests.pictures import encode


def draw_pictures(folder: Path, names: list[str], size: tuple[int, int]) -> None:
    draw = np.random.default_rng(2)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(60):
            pixels = draw.integers(0, 256, (*size, 3)).astype(np.uint8)
            (folder / name / f"{name}{number}.jpg").write_bytes(encode(Image.fromarray(pixels)))


# a face crop is served as it is; of other pictures, the odd size shows that they are resized alike
@pytest.mark.parametrize(("name", "size"), [("smile", (64, 64)), ("dogcat", (170, 233))])
def test_training_and_serving_use_the_same_tensor(
    tmp_path: Path, models_dir: Path, name: str, size: tuple[int, int]
) -> None:
    course = TRAINING_TASKS[name]
    draw_pictures(tmp_path / "data", list(course.folders), size)
    model = open_model(open_model_folder(models_dir / name), "auto")
    part = prepare(course.data, tmp_path / "data", tmp_path / "work").part("train", course.recipes["best"].input)
    assert len(part.names) >= 5
    for file, trained in zip(part.names[:5], part.pictures, strict=False):
        with open_picture((tmp_path / "data" / file).read_bytes(), PictureLimits()) as picture:
            served = pipeline.prepare(model, picture).tensor
        assert np.array_equal(served[0], trained)
