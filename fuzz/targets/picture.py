"""Pictures, as clients send them."""

from __future__ import annotations

from pathlib import Path

from app.settings import PictureLimits
from app.types import Preprocess
from app.vision.decode import decode
from app.vision.preprocess import to_tensor
from fuzz import seeds
from fuzz.mutations import picture_chunks
from fuzz.target import Target

MAX_PIXELS = 1_000_000
LIMITS = PictureLimits(MAX_PIXELS)
CROP = Preprocess(resize="crop", shorter_side=24, interpolation="bilinear", antialias=True)


def read(path: Path) -> object:
    """Decode a picture in full and as a thumbnail, and assert that it becomes a tensor."""
    data = path.read_bytes()
    image = decode(data, LIMITS).image
    assert image.mode == "RGB" and 0 < image.width * image.height <= MAX_PIXELS, (image.mode, image.size)
    decode(data, LIMITS, enough=4)
    tensor = to_tensor(image, CROP, (0, 3, 20, 20))
    assert tensor.shape == (1, 3, 20, 20)
    return tensor


TARGET = Target("picture", ".jpg", seeds.pictures, picture_chunks.mutate, read)
