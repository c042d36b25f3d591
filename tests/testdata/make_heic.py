"""Writes quarters.heic, with pillow-heif, whose encoder Dimple does not need: pip install pillow-heif

python tests/testdata/make_heic.py
"""

import sys
from pathlib import Path

import pillow_heif

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.vision.pictures import quarters  # noqa: E402

ROTATED = 6
"""EXIF's orientation of a picture that is shown after a quarter turn clockwise; the encoder writes it as ``irot``."""

pillow_heif.register_heif_opener()
picture = quarters(96, 64)
exif = picture.getexif()
exif[0x0112] = ROTATED
picture.save(HERE / "quarters.heic", "HEIF", quality=90, exif=exif.tobytes())
