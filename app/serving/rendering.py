"""Pictures for the page: thumbnails, network inputs, and heat maps of explanations."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from app.serving.explain import Explanation
from app.types import Box, FloatArray, Preprocess

LEAST_DROP = 0.1
"""Minimum decrease of the probability for the full colour, so that irrelevant parts stay uncoloured."""
WARM, HOT = (246, 183, 60), (200, 16, 70)
GREYED = 0.6
"""Fraction by which the picture's colours are reduced under the heat map, so that the map's colours stand out."""


def jpeg(image: Image.Image, side: int) -> bytes:
    """Return a small JPEG without the file's metadata: no place, no camera.

    :param side: longest side in pixels.
    """
    return _encode(small(image, side), "JPEG", quality=85)


def png(image: Image.Image) -> bytes:
    """Return a PNG."""
    return _encode(image, "PNG", optimize=True)


def tensor_image(tensor: FloatArray, preprocess: Preprocess) -> Image.Image:
    """Return the network's input: the tensor's values, converted back to pixels of 0-255.

    :param tensor: one picture's tensor, (1, …).
    :returns: image of the network's input size; grey or RGB.
    """
    array = tensor[0].transpose(1, 2, 0) if preprocess.layout == "NCHW" else tensor[0]
    pixels = (array * np.asarray(preprocess.std, np.float32) + np.asarray(preprocess.mean, np.float32)) / (
        preprocess.scale or 1
    )
    bytes_ = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if preprocess.color == "grey":
        return Image.fromarray(bytes_[:, :, 0])
    return Image.fromarray(np.ascontiguousarray(bytes_[:, :, ::-1] if preprocess.color == "bgr" else bytes_))


def small(image: Image.Image, side: int) -> Image.Image:
    """Return a copy whose longest side is at most ``side`` pixels."""
    copy = image.copy()
    copy.thumbnail((side, side))
    return copy


def heat_map(small: Image.Image, frame: Box, explanation: Explanation) -> Image.Image:
    """Return the picture, paled, with colour on the parts that support the answer.

    :param small: the part ``frame`` of the picture, RGB, in the size of the map.
    :param frame: box in the pixels of the whole picture, like the explanation's region.
    """
    scale = small.width / frame.width, small.height / frame.height
    seen = explanation.region
    region = _scaled(Box(seen.x - frame.x, seen.y - frame.y, seen.width, seen.height), scale, small.size)
    drops = explanation.drops.clip(0) / max(float(explanation.drops.max()), LEAST_DROP)
    inside = Image.fromarray((drops * 255).astype(np.uint8)).resize(
        (region.width, region.height), Image.Resampling.BICUBIC
    )
    heat = Image.new("L", small.size)
    heat.paste(inside, (region.x, region.y))
    strength = np.asarray(heat, np.float32)[:, :, np.newaxis] / 255
    pale = np.asarray(Image.blend(small, small.convert("L").convert("RGB"), GREYED), np.float32)
    colour = np.asarray(WARM) * (1 - strength) + np.asarray(HOT) * strength
    opacity = 0.85 * strength
    return Image.fromarray((pale * (1 - opacity) + colour * opacity).astype(np.uint8))


def _scaled(box: Box, scale: tuple[float, float], size: tuple[int, int]) -> Box:
    left, top = min(round(box.x * scale[0]), size[0] - 1), min(round(box.y * scale[1]), size[1] - 1)
    width = max(1, min(round(box.width * scale[0]), size[0] - left))
    height = max(1, min(round(box.height * scale[1]), size[1] - top))
    return Box(left, top, width, height)


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
