"""Made pictures of three classes that a network tells apart, no two of them alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tests.pictures import encode

CLASSES = ("discs", "noise", "stripes")
SIDE = 64


def draw(kind: str, number: int) -> Image.Image:
    lot = np.random.default_rng((CLASSES.index(kind), number))
    if kind == "noise":
        return Image.fromarray(lot.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    image = Image.new("RGB", (SIDE, SIDE), tuple(lot.integers(120, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    colour = tuple(lot.integers(0, 100, 3).tolist())
    if kind == "discs":
        for x, y in lot.integers(5, SIDE - 5, (5, 2)).tolist():
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour)
    else:
        for x in range(int(lot.integers(0, 9)), SIDE, int(lot.integers(9, 18))):
            pen.rectangle((x, 0, x + 3, SIDE), fill=colour)
    return image


def write_shapes(folder: Path, count: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write ``count`` pictures of each class into a folder of its name."""
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            (folder / kind / f"{number}.png").write_bytes(encode(draw(kind, number), "PNG"))
    return folder
