"""Preprocessing of an upright photograph to the network's input, as the model's description specifies."""

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

from app.errors import DataError, ModelFormatError
from app.types import FloatArray, Interpolation, Preprocess
from app.vision import resample
from app.vision.faces import CANVASES

Pixels = NDArray[np.uint8]

_importing = threading.Lock()


def _cv2() -> ModuleType | None:
    # OpenCV removes itself from sys.modules during its import, so a second thread would get half a module.
    with _importing:
        return _import_cv2()


@cache
def _import_cv2() -> ModuleType | None:
    """Import OpenCV; return None if it is not installed, as on installations that only serve."""
    try:
        import cv2
    except ImportError:
        return None
    # The server's threads already keep every core busy; OpenCV's own pool would only make them wait for each other.
    cv2.setNumThreads(1)
    return cv2


def resize(pixels: Pixels, width: int, height: int, interpolation: Interpolation) -> Pixels:
    """Resize as MXNet's ``imresize``, and therefore MMS's ``image.resize``, do: with ``cv2.resize``, without
    antialiasing. Without OpenCV, :mod:`app.vision.resample` does the same, some milliseconds slower.

    :param pixels: (H, W) or (H, W, 3), 0-255.
    :returns: (``height``, ``width``) or (``height``, ``width``, 3).
    """
    cv2 = _cv2()
    if cv2 is None:
        return resample.resize(pixels, width, height, interpolation)
    flags = {
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "lanczos": cv2.INTER_LANCZOS4,
    }
    # MXNet's OpenCV was built without Intel's routines, which differ by one level in 3 % of the pixels. The switch is
    # per thread.
    cv2.ipp.setUseIPP(False)
    resized: Pixels = cv2.resize(pixels, (width, height), interpolation=flags[interpolation])
    return resized


def warp(pixels: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[Any]:
    """Apply an affine transform to an image, with bilinear interpolation; pixels outside are reflected from inside.

    :param pixels: (H, W) or (H, W, C), of any type.
    :param matrix: (2, 3): maps each point (x, y, 1) of the result to a point of ``pixels``.
    :returns: an array like ``pixels``.
    :raises DataError: if OpenCV is not installed; only training needs this.
    """
    cv2 = _cv2()
    if cv2 is None:
        raise DataError("Training needs OpenCV, which is not installed. Install Dimple completely: make install")
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
# Before an image is resized, its ends are cropped to this multiple of the part that remains afterwards. A strip of
# 65,535 x 1 pixels would otherwise be enlarged to billions of pixels, of which only the middle remains.
_LONGEST = 8
# An image of more than twice this multiple of the target size is first averaged down by a whole factor, to at least
# this multiple. That takes a quarter of the time, and 8-bit values differ by at most 1 in 99 of 100 places.
_REDUCING_GAP = 3.0


def to_tensor(image: Image.Image, preprocess: Preprocess, shape: tuple[int, ...]) -> FloatArray:
    """Convert an image to a batch of one.

    Grey is Pillow's ``L`` (luma of ITU-R BT.601), computed before resizing as in MMS's services.

    :param image: upright, RGB.
    :param shape: shape of the input with its batch axis, in the order of ``preprocess.layout``.
    :returns: contiguous (1, C, H, W) or (1, H, W, C), or (1, H, W) for an input without a channel axis: ``(pixel *
        scale - mean) / std``.
    :raises ModelFormatError: if the shape is not the shape of one image, or does not match the description.
    """
    return normalise(to_pixels(image, preprocess, shape), preprocess, shape)


def to_pixels(image: Image.Image, preprocess: Preprocess, shape: tuple[int, ...]) -> Pixels:
    """Convert an image to the size and the number of channels of the network's input, as :func:`to_tensor` does.

    :returns: (H, W, 3) in the order red, green, blue, or (H, W, 1) if it is grey.
    :raises ModelFormatError: as :func:`to_tensor`.
    """
    plan = _plan(preprocess, shape)
    coloured = image.convert("L") if preprocess.color == "grey" else image
    return _fit(coloured, preprocess, plan.width, plan.height).reshape(plan.height, plan.width, plan.channels)


def normalise(pixels: Pixels, preprocess: Preprocess, shape: tuple[int, ...]) -> FloatArray:
    """Convert the pixels of :func:`to_pixels` to a batch of one, as :func:`to_tensor` does."""
    plan = _plan(preprocess, shape)
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
    """The precomputed steps of a description, the same for every image: the size, and the operations on the pixels in
    the input's layout, without neutral ones."""

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

    :raises ModelFormatError: if ``shape`` does not have four axes (or three, for grey images), leaves height or width
        open, or has other channels than the description's colour (open channels, 0, match any).
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
    """Return the shortest side, in pixels, at which an image gives nearly the same tensor as a larger one.

    It is twice the side that the network or the face detector uses. It is 0 if there is none, because resizing does not
    smooth.
    """
    if not preprocess.antialias or preprocess.interpolation == "nearest":
        return 0
    searched = max(max(canvas) for canvas in CANVASES) if preprocess.faces else 0
    return 2 * max(searched, preprocess.shorter_side, *input_size(preprocess, shape))


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> FloatArray:
    if len(values) not in (1, channels):
        raise ModelFormatError(f"The model's preprocess has {len(values)} values of {name} for {channels} channels.")
    return np.asarray(values, dtype=np.float32)


def _fit(image: Image.Image, preprocess: Preprocess, width: int, height: int) -> NDArray[np.uint8]:
    """Resize ``image`` to the input's size, by stretching or cropping: (H, W) or (H, W, 3)."""
    if preprocess.resize == "stretch":
        if preprocess.antialias or image.size == (width, height):
            return np.asarray(_resize(image, preprocess, width, height))
        return resize(np.asarray(image), width, height, preprocess.interpolation)
    if preprocess.resize == "fit":
        return np.asarray(ImageOps.fit(image, (width, height), _PILLOW[preprocess.interpolation]))
    return np.asarray(_cover_and_crop(image, preprocess, width, height))


def _cover_and_crop(image: Image.Image, preprocess: Preprocess, width: int, height: int) -> Image.Image:
    """Resize the shorter side to ``shorter_side``, or larger if needed to cover the input; then crop the centre."""
    shorter = preprocess.shorter_side
    scale = max(shorter / min(image.size), width / image.width, height / image.height)
    image = _centre(
        image,
        min(image.width, int(np.ceil(_LONGEST * width / scale))),
        min(image.height, int(np.ceil(_LONGEST * height / scale))),
    )
    scaled_width = max(width, round(image.width * scale))
    scaled_height = max(height, round(image.height * scale))
    if preprocess.antialias and preprocess.interpolation != "area" and image.size != (scaled_width, scaled_height):
        return _resize_centre(image, preprocess, (scaled_width, scaled_height), (width, height))
    return _centre(_resize(image, preprocess, scaled_width, scaled_height), width, height)


def _resize_centre(
    image: Image.Image, preprocess: Preprocess, scaled: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """Resize an image to ``scaled`` and return the centre of ``size``; only those pixels are computed.

    "area" weighs whole pixels, so a box at fractions of pixels would move its edges.
    """
    factors = [max(1, int(side / target / _REDUCING_GAP)) for side, target in zip(image.size, scaled, strict=True)]
    box = []
    for side, target, remaining, factor in zip(image.size, scaled, size, factors, strict=True):
        step, start = side / target / factor, (target - remaining) // 2
        box.append((start * step, (start + remaining) * step))
    (left, right), (top, bottom) = box
    reduced = image.reduce((factors[0], factors[1])) if max(factors) > 1 else image
    return reduced.resize(size, _PILLOW[preprocess.interpolation], (left, top, right, bottom))


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
