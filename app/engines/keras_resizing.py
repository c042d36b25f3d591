"""TensorFlow's resizing of pictures along one side, as a matrix.

``tf.image.resize`` (TensorFlow 2, without antialiasing) computes each new line as a weighted sum of old ones: pixels
are squares, and line ``i`` of ``n`` has its middle at ``(i + 0.5) / n`` of the side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError

METHODS = ("nearest", "bilinear", "bicubic", "area")
UNCHANGED = (*METHODS, "lanczos3", "lanczos5")
"""Those that leave a side as it is if that is how long it is to be."""
MAX_LINES = 2**14
TABLE = 1024
"""TensorFlow looks up its cubic kernel at this many places between two lines."""
KEYS = -0.5
"""The parameter of TensorFlow's cubic kernel (Keys, 1981)."""


def resizing(old: int, new: int, method: str) -> NDArray[np.float32]:
    """Return the matrix (new, old) that resizes a side.

    :raises ModelFormatError: if the method is unknown, or the side too long.
    """
    if not 0 < new <= MAX_LINES:
        raise ModelFormatError(f"it resizes a side to {new:,} pixels; 1 to {MAX_LINES:,} can be computed")
    if old == new and method in UNCHANGED:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    places = np.arange(new)
    matrix = np.zeros((new, old), np.float64)
    if method == "nearest":
        lines = np.minimum(np.floor((places + 0.5).astype(np.float32) * np.float32(scale)).astype(int), old - 1)
        matrix[places, lines] = 1
    elif method in ("bilinear", "bilinear of TensorFlow 1"):
        middle = (places + 0.5) * scale - 0.5 if method == "bilinear" else places * scale
        before = np.floor(middle).astype(int)
        part = middle - before
        np.add.at(matrix, (places, np.clip(before, 0, old - 1)), 1 - part)
        np.add.at(matrix, (places, np.clip(before + 1, 0, old - 1)), part)
    elif method == "bicubic":
        middle = (places + 0.5) * scale - 0.5
        before = np.floor(middle).astype(int)
        part = np.rint((middle - before) * TABLE) / TABLE
        for step in range(-1, 3):
            lines = before + step
            inside = (lines >= 0) & (lines < old)
            matrix[places[inside], lines[inside]] = _cubic(np.abs(part - step))[inside]
        matrix /= matrix.sum(axis=1, keepdims=True)  # TensorFlow leaves out what lies beyond the side
    elif method == "area":
        for place in range(new):
            begin, end = place * scale, (place + 1) * scale
            lines = np.arange(old)
            matrix[place] = np.clip(np.minimum(lines + 1, end) - np.maximum(lines, begin), 0, None) / scale
    else:
        raise ModelFormatError(f"it resizes by {method!r}; known are {', '.join(METHODS)}")
    return matrix.astype(np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = ((KEYS + 2) * distance - (KEYS + 3)) * distance**2 + 1
    far = ((KEYS * distance - 5 * KEYS) * distance + 8 * KEYS) * distance - 4 * KEYS
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
