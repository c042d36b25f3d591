"""Pictures as MXNet arrays."""

from __future__ import annotations

import base64
import io
from typing import Any

import mxnet as mx
import numpy as np
from PIL import Image


def read(buf: Any, flag: int = 1, to_rgb: bool = True, out: Any = None) -> Any:
    """Decode a picture.

    :param buf: the bytes of a picture file.
    :param flag: 1 for colour, (H, W, 3); 0 for grey, (H, W, 1).
    :param to_rgb: False leaves a colour picture in OpenCV's order, BGR.
    :param out: an array to decode into.
    :returns: NDArray, uint8, 0 to 255.
    """
    return mx.image.imdecode(buf, flag=flag, to_rgb=to_rgb, out=out)


def resize(src: Any, new_width: int, new_height: int, interp: int = 2) -> Any:
    """Resize a picture, without keeping its proportions.

    :param src: NDArray, (H, W, C).
    :param interp: OpenCV's number: 0 nearest, 1 linear, 2 bicubic, 3 area, 4 Lanczos. MXNet's documentation swaps 2 and
        3 (apache/mxnet#14993).
    :returns: NDArray, (new_height, new_width, C).
    """
    return mx.image.imresize(src, new_width, new_height, interp=interp)


def fixed_crop(src: Any, x0: int, y0: int, w: int, h: int, size: tuple[int, int] | None = None, interp: int = 2) -> Any:
    """Cut out rows ``y0`` to ``y0 + h`` and columns ``x0`` to ``x0 + w``.

    :param size: (width, height) to resize the piece to.
    """
    return mx.image.fixed_crop(src, x0, y0, w, h, size, interp)


def color_normalize(src: Any, mean: Any, std: Any = None) -> Any:
    """Subtract ``mean``, then divide by ``std``, as float32."""
    return mx.image.color_normalize(src.astype(np.float32), mean, std)


def transform_shape(img_arr: Any, dim_order: str = "NCHW") -> Any:
    """Make a picture a batch of one.

    :param img_arr: NDArray, (H, W, C).
    :param dim_order: ``NCHW`` or ``NHWC``.
    :returns: NDArray, (1, C, H, W) or (1, H, W, C).
    """
    if dim_order not in ("NCHW", "NHWC"):
        raise AssertionError("dim_order must be 'NCHW' or 'NHWC'.")
    planes = mx.nd.transpose(img_arr, (2, 0, 1)) if dim_order == "NCHW" else img_arr
    return mx.nd.expand_dims(planes, axis=0)


def write(img_arr: Any, flag: int = 1, format: str = "jpeg", dim_order: str = "CHW") -> str:
    """Encode a picture.

    :param img_arr: NDArray, (C, H, W) or (H, W, C) as ``dim_order`` says, 0 to 255.
    :param flag: 1 for RGB, 0 for grey.
    :param format: one that Pillow writes.
    :returns: the file's bytes in base64.
    """
    if dim_order not in ("CHW", "HWC"):
        raise AssertionError("dim_order must be 'CHW' or 'HWC'.")
    pixels = img_arr.asnumpy().astype(np.uint8)
    if dim_order == "CHW":
        pixels = pixels.transpose(1, 2, 0)
    if flag != 1:
        pixels = pixels.reshape(pixels.shape[:2])
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format=format)
    return base64.b64encode(file.getvalue()).decode()
