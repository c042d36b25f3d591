"""Resizing in NumPy, compared with OpenCV."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from app.settings import ROOT
from app.types import Interpolation
from app.vision import resample

FLAGS: dict[Interpolation, int] = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
EXACT = ("nearest", "bilinear")


def sizes(count: int) -> list[tuple[int, int, int, int]]:
    """Return heights and widths before and after: any, halves, thirds, and strips."""
    draw = np.random.default_rng(0)
    drawn = [tuple(int(size) for size in draw.integers(1, 150, 4)) for _ in range(count)]
    halves = [(2 * height, 2 * width, height, width) for _, _, height, width in drawn[:5]]
    thirds = [(3 * height, 3 * width, height, width) for _, _, height, width in drawn[5:10]]
    return [*drawn, *halves, *thirds, (1, 140, 30, 30), (140, 1, 30, 30), (1, 1, 7, 5)]  # type: ignore[list-item]


@pytest.mark.parametrize("interpolation", FLAGS)
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_our_resampling_equals_that_of_opencv(interpolation: Interpolation, channels: tuple[int, ...]) -> None:
    cv2.ipp.setUseIPP(False)  # type: ignore[attr-defined]
    draw = np.random.default_rng(1)
    different = total = 0
    for height, width, new_height, new_width in sizes(40):
        pixels = draw.integers(0, 256, (height, width, *channels), dtype=np.uint8)
        expected = cv2.resize(pixels, (new_width, new_height), interpolation=FLAGS[interpolation])
        actual = resample.resize(pixels, new_width, new_height, interpolation)
        assert (actual.shape, actual.dtype) == (expected.shape, np.uint8)
        distance = np.abs(actual.astype(int) - expected)
        assert distance.max() <= (0 if interpolation in EXACT else 1)
        different, total = different + int((distance > 0).sum()), total + distance.size
    assert different <= total / 1000


def test_preprocessing_gives_the_same_pixels_without_opencv() -> None:
    code = """
import hashlib, sys
if len(sys.argv) > 1:
    sys.modules["cv2"] = None
from PIL import Image
from app.types import Preprocess
from app.vision.preprocess import to_tensor
preprocess = Preprocess(resize="stretch", interpolation="bilinear", antialias=False)
tensor = to_tensor(Image.open("static/astronaut.jpg").convert("RGB"), preprocess, (0, 3, 224, 224))
print(hashlib.sha256(tensor.tobytes()).hexdigest(), "cv2" in sys.modules and sys.modules["cv2"] is not None)
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, *hidden], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        for hidden in ([], ["hidden"])
    ]
    assert outputs[0][0] == outputs[1][0]
    assert [used for _, used in outputs] == ["True", "False"]
