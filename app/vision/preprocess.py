"""An upright photograph -> the network's input, exactly as the model's own description asks for it."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.errors import ModelFormatError
from app.types import FloatArray, Interpolation, Preprocess
from app.vision.centerface import CANVASES

Pixels = NDArray[np.uint8]

_importing = threading.Lock()


def _cv2() -> ModuleType:
    # OpenCV takes itself out of sys.modules while it is imported, so a second thread would get half a module.
    with _importing:
        return _import_cv2()


@cache
def _import_cv2() -> ModuleType:
    import cv2

    # The server's threads already keep every core busy; OpenCV's own pool would only make them wait for each other.
    cv2.setNumThreads(1)
    return cv2


def resize(pixels: Pixels, width: int, height: int, interpolation: Interpolation) -> Pixels:
    """Resize as MXNet's ``imresize`` does, and so as MMS's ``image.resize``: by ``cv2.resize``, without antialiasing.

    :param pixels: (H, W) or (H, W, 3), 0-255.
    :returns: (``height``, ``width``) or (``height``, ``width``, 3).
    """
    cv2 = _cv2()
    flags = {
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "lanczos": cv2.INTER_LANCZOS4,
    }
    # Intel's routines, which MXNet's OpenCV was built without, are off by one level in three pixels of a hundred. The
    # switch is each thread's own.
    cv2.ipp.setUseIPP(False)
    resized: Pixels = cv2.resize(pixels, (width, height), interpolation=flags[interpolation])
    return resized


def warp(pixels: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[Any]:
    """Move every pixel of a picture, bilinearly; what lies outside mirrors the inside.

    :param pixels: (H, W) or (H, W, C), of any type.
    :param matrix: (2, 3): for each point (x, y, 1) of the result, the point of ``pixels`` that is put there.
    :returns: an array like ``pixels``.
    """
    cv2 = _cv2()
    height, width = pixels.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: NDArray[Any] = cv2.warpAffine(pixels, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return moved


_PILLOW: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
# Of a picture longer than this many times what will be kept of it, the ends are dropped before it is resized: a strip
# of 65,535 x 1 pixels would otherwise be blown up to billions of pixels, of which the middle is kept.
_LONGEST = 8
# A picture of more than twice this many times the size is first averaged down by a whole factor, to at least this many
# times the size: in a quarter of the time, and 8-bit values differ by 1 at most in 99 of 100 places.
_REDUCING_GAP = 3.0


def to_tensor(image: Image.Image, preprocess: Preprocess, shape: tuple[int, ...]) -> FloatArray:
    """Turn one picture into a batch of one.

    Grey is Pillow's ``L`` (luma of ITU-R BT.601), made before resizing as MMS's services do.

    :param image: upright, RGB.
    :param shape: the input's shape with its batch axis, in the order of ``preprocess.layout``.
    :returns: contiguous (1, C, H, W) or (1, H, W, C), or (1, H, W) for an input without an axis for channels:
        ``(pixel * scale - mean) / std``.
    :raises ModelFormatError: where the shape is not that of one picture, or does not agree with the description.
    """
    plan = _plan(preprocess, shape)
    coloured = image.convert("L") if preprocess.color == "grey" else image
    pixels = _fit(coloured, preprocess, plan.width, plan.height)
    pixels = pixels.reshape(plan.height, plan.width, plan.channels)
    if preprocess.color == "bgr":
        pixels = pixels[:, :, ::-1]
    if preprocess.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    tensor = np.array(pixels, np.float32, order="C")
    for change, value in plan.steps:
        change(tensor, value, out=tensor)
    return tensor[np.newaxis] if len(shape) == 4 else tensor.reshape(1, plan.height, plan.width)


@dataclass(frozen=True)
class _Plan:
    """What a description comes to, the same for every picture: the size, and what is done to the pixels in the input's
    layout, without what would leave them as they are."""

    height: int
    width: int
    channels: int
    steps: tuple[tuple[np.ufunc, FloatArray], ...]


@functools.lru_cache(maxsize=256)
def _plan(preprocess: Preprocess, shape: tuple[int, ...]) -> _Plan:
    channels = 1 if preprocess.color == "grey" else 3
    height, width = input_size(preprocess, shape)
    axes = (-1, 1, 1) if preprocess.layout == "NCHW" else (1, 1, -1)
    mean = _per_channel("mean", preprocess.mean, channels).reshape(axes)
    std = _per_channel("std", preprocess.std, channels).reshape(axes)
    if not std.all():
        raise ModelFormatError(f"The model's preprocess divides by zero: std is {preprocess.std}.")
    scale = np.asarray(preprocess.scale, dtype=np.float32)
    steps = ((np.multiply, scale, 1), (np.subtract, mean, 0), (np.divide, std, 1))
    changes = tuple((change, value) for change, value, neutral in steps if (value != neutral).any())
    return _Plan(height, width, channels, changes)


def input_size(preprocess: Preprocess, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width of the network's input, in pixels.

    :raises ModelFormatError: if ``shape`` has not four axes (or three, for grey pictures), leaves height or width open,
        or has other channels than the description's colour (open channels, 0, agree with any).
    """
    layout: str = preprocess.layout
    if len(shape) == 3 and preprocess.color == "grey":
        layout, shape = "NHWC", (*shape, 1)
    if len(shape) != 4:
        raise ModelFormatError(
            f"The model's input has the shape {shape}; a picture needs four axes, {layout}, or three if it is grey."
        )
    sizes = dict(zip(layout, shape, strict=True))
    if sizes["H"] <= 0 or sizes["W"] <= 0:
        raise ModelFormatError(f"The model's input {layout} {shape} leaves its height or width open; both are needed.")
    channels = 1 if preprocess.color == "grey" else 3
    if sizes["C"] not in (0, channels):
        raise ModelFormatError(
            f"The model's input {layout} {shape} has {sizes['C']} channels, but {preprocess.color} pictures have "
            f"{channels}. Correct 'color' or 'layout' in signature.json."
        )
    return sizes["H"], sizes["W"]


def draft_side(preprocess: Preprocess, shape: tuple[int, ...]) -> int:
    """Return the shortest side, in pixels, at which a picture gives nearly the same tensor as a larger one: twice what
    the network or the search for faces leaves of it. 0 if there is none, because resizing does not smooth."""
    if not preprocess.antialias or preprocess.interpolation == "nearest":
        return 0
    searched = max(max(canvas) for canvas in CANVASES) if preprocess.faces else 0
    return 2 * max(searched, preprocess.shorter_side, *input_size(preprocess, shape))


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> FloatArray:
    if len(values) not in (1, channels):
        raise ModelFormatError(f"The model's preprocess has {len(values)} values of {name} for {channels} channels.")
    return np.asarray(values, dtype=np.float32)


def _fit(image: Image.Image, preprocess: Preprocess, width: int, height: int) -> NDArray[np.uint8]:
    """Bring ``image`` to the input's size, by stretching or by cropping: (H, W) or (H, W, 3)."""
    if preprocess.resize == "stretch":
        if preprocess.antialias or image.size == (width, height):
            return np.asarray(_resize(image, preprocess, width, height))
        return resize(np.asarray(image), width, height, preprocess.interpolation)
    if preprocess.resize == "fit":
        return np.asarray(ImageOps.fit(image, (width, height), _PILLOW[preprocess.interpolation]))
    return np.asarray(_cover_and_crop(image, preprocess, width, height))


def _cover_and_crop(image: Image.Image, preprocess: Preprocess, width: int, height: int) -> Image.Image:
    """Shorter side to ``shorter_side``, and at least so large that the input is covered; then the centre."""
    shorter = preprocess.shorter_side
    scale = max(shorter / min(image.size), width / image.width, height / image.height)
    image = _centre(
        image,
        min(image.width, int(np.ceil(_LONGEST * width / scale))),
        min(image.height, int(np.ceil(_LONGEST * height / scale))),
    )
    scaled_width = max(width, round(image.width * scale))
    scaled_height = max(height, round(image.height * scale))
    return _centre(_resize(image, preprocess, scaled_width, scaled_height), width, height)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resize(image: Image.Image, preprocess: Preprocess, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    if preprocess.antialias:
        return image.resize((width, height), _PILLOW[preprocess.interpolation], reducing_gap=_REDUCING_GAP)
    return Image.fromarray(resize(np.asarray(image), width, height, preprocess.interpolation))
