"""OpenCV, imported here and nowhere else, and only once it is needed: it takes a quarter of a second."""

from __future__ import annotations

import threading
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import Interpolation

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
