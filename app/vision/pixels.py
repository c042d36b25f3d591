"""Every pixel format that Pillow opens -> 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin

from app.errors import NotAPicture
from app.types import FloatArray

_BITS_PER_SAMPLE = 258  # TIFF 6.0, tag BitsPerSample


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a loaded picture of any mode into RGB; transparent parts become white.

    :raises NotAPicture: for samples of which nothing says what white is (32-bit integers, floats beyond 0-1).
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        return _from_floats(image).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey -> 8-bit grey, rounded; Pillow's own conversion clips everything above 255 to white.

    12-bit TIFFs come in this mode too. A PNG may name one grey value as transparent (chunk tRNS).
    """
    samples = np.asarray(image).astype(np.float32)
    grey = np.rint(samples * (255 / _white(image))).clip(0, 255).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[samples == clear] = 255
    return Image.fromarray(grey)


def _white(image: Image.Image) -> int:
    """The largest sample of a 16-bit mode's picture: 65,535, or 4,095 in a 12-bit TIFF."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2[_BITS_PER_SAMPLE] == (12,):
        return 2**12 - 1
    return 2**16 - 1


def _from_floats(image: Image.Image) -> Image.Image:
    """Samples of 0-1 -> 0-255, which is the one convention there is for floats."""
    samples: FloatArray = np.asarray(image, dtype=np.float32)
    if image.mode == "I" or not (samples.min() >= 0 and samples.max() <= 1):
        raise NotAPicture("its samples are 32-bit or floating-point numbers outside 0-1, so its white is not known")
    return Image.fromarray(np.rint(samples * 255).astype(np.uint8))
