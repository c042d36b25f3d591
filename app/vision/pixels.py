"""Every pixel format that Pillow opens -> 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from app.errors import InvalidImage
from app.types import FloatArray
from app.vision.containers import Samples


def to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    """Turn a loaded picture of any mode into RGB; transparent parts become white.

    :raises InvalidImage: for floats beyond 0-1, of which nothing says what white is.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, samples).convert("RGB")
    if image.mode == "F":
        return _from_floats(image, samples).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _from_16_bits(image: Image.Image, samples: Samples) -> Image.Image:
    """16-bit grey -> 8-bit grey, rounded; Pillow's own conversion clips everything above 255 to white.

    12-bit TIFFs come in this mode too. A PNG may name one grey value as transparent (chunk tRNS).
    """
    values = np.asarray(image).astype(np.float32)
    grey = np.rint(values * (255 / samples.white)).clip(0, 255).astype(np.uint8)
    if samples.inverted:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _from_floats(image: Image.Image, samples: Samples) -> Image.Image:
    """Samples of 0-1 -> 0-255, which is the one convention there is for floats."""
    values: FloatArray = np.asarray(image, dtype=np.float32)
    if samples.swapped:
        values = values.byteswap()
    if not (values.min() >= 0 and values.max() <= 1):
        raise InvalidImage("its samples are floating-point numbers outside 0-1, so its white is not known")
    grey = np.rint(values * 255).astype(np.uint8)
    return Image.fromarray(255 - grey if samples.inverted else grey)
