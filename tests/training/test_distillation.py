from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.training.recipes import DistillationOptions
from app.training.run import predict_teacher
from app.zoo.imagenet import ensure_imagenet
from tests.pictures import astronaut


def test_the_teacher_sees_the_whole_picture_and_its_answer_is_softened(tmp_path: Path) -> None:
    folder = ensure_imagenet(tmp_path)
    pixels = np.asarray(astronaut().resize((150, 150)), np.float32).transpose(2, 0, 1)[np.newaxis] / 255
    sharp, soft = (predict_teacher(folder, pixels, DistillationOptions(temperature, 1)) for temperature in (1, 2))
    assert sharp.shape == soft.shape == (1, 1000)
    # softmax(z / 2) is proportional to the square root of softmax(z)
    assert soft == pytest.approx(np.sqrt(sharp) / np.sqrt(sharp).sum(), rel=1e-3)
    assert soft.max() < sharp.max()
