"""Keras's padding, cropping and resizing of pictures, as MXNet operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.engines.keras.graph import Net, Value, along, maps, of_maps, pad, resizing
from app.engines.keras.layers import Layer, kind
from app.engines.keras.symbol import apply
from app.errors import ModelFormatError


def _sides(value: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    down, across = (value, value) if isinstance(value, int) else value
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in (down, across)]
    return (int(pairs[0][0]), int(pairs[0][1])), (int(pairs[1][0]), int(pairs[1][1]))


@kind("ZeroPadding2D", "padding data_format")
def _zero_padding(layer: Layer, x: Value) -> Value:
    symbol, (channels, height, width) = maps(x, layer.data_format)
    down, across = _sides(layer.options.get("padding", 1))
    shape = channels, height + sum(down), width + sum(across)
    return of_maps(pad(symbol, (down, across)), shape, layer.data_format)


@kind("Cropping2D", "cropping data_format")
def _cropping(layer: Layer, x: Value) -> Value:
    down, across = _sides(layer.options.get("cropping", 0))
    return _cropped(x, layer.data_format, down, across)


def _cropped(x: Value, data_format: str, down: tuple[int, int], across: tuple[int, int]) -> Value:
    symbol, (channels, height, width) = maps(x, data_format)
    left = height - sum(down), width - sum(across)
    if min(left) > 0 and any(down):
        symbol = apply("slice_axis", symbol, axis=2, begin=down[0], end=height - down[1])
    if min(left) > 0 and any(across):
        symbol = apply("slice_axis", symbol, axis=3, begin=across[0], end=width - across[1])
    return of_maps(symbol, (channels, *left), data_format)


@kind("UpSampling2D", "size data_format interpolation")
def _up_sampling(layer: Layer, x: Value) -> Value:
    method = str(layer.options.get("interpolation") or "nearest")
    if layer.net.mxnet:  # it knows no other method
        method = "nearest"
    elif method != "nearest" and layer.net.before(2, 4):
        method = _older_interpolation(method, layer.net.keras_version)
    first = layer.data_format == "channels_first"
    for axis, factor in zip((2, 3) if first else (1, 2), layer.pair("size", (2, 2)), strict=True):
        x = along(layer.net, x, axis, resizing(x.size(axis), x.size(axis) * factor, method))
    return x


def _older_interpolation(method: str, version: str) -> str:
    """Return the meaning of an interpolation in Keras before 2.4.

    Keras by itself aligned lines at their beginnings, not their middles. So did tf.keras of TensorFlow 1.13, but not
    tf.keras of TensorFlow 1.14 and later.
    """
    if version.endswith("-tf") and not version.startswith("2.2"):
        return method
    if version.endswith("-tf") or method != "bilinear":
        raise ModelFormatError(
            f"it is an UpSampling2D with interpolation={method!r} of Keras {version}, which meant another thing with "
            "each version of TensorFlow. Load it with TensorFlow 2.15 or older, compare its answers, and save it again"
        )
    return "bilinear of TensorFlow 1"


def resize(net: Net, x: Value, height: int, width: int, method: str) -> Value:
    """Resize a picture with the channels last as ``tf.image.resize`` does."""
    for axis, size in ((1, height), (2, width)):
        matrix = resizing(x.size(axis), size, method)
        if x.size(axis) != size:
            x = along(net, x, axis, matrix)
    return replace(x, whole=False)


@kind(
    "Resizing",
    "height width interpolation crop_to_aspect_ratio",
    data_format=("channels_last", None),
    pad_to_aspect_ratio=(False,),
    antialias=(False,),
    fill_mode=(),
    fill_value=(),
)
def _resizing(layer: Layer, x: Value) -> Value:
    method = str(layer.options.get("interpolation") or "bilinear").lower()
    if layer.options.get("crop_to_aspect_ratio"):
        return _resized_and_cropped(layer, x, method)
    return resize(layer.net, _picture(x), *_target(layer), method)


@kind("CenterCrop", "height width", data_format=("channels_last", None))
def _center_crop(layer: Layer, x: Value) -> Value:
    spare = [side - size for side, size in zip(_picture(x).shape, _target(layer), strict=False)]
    if min(spare) < 0:
        return _resized_and_cropped(layer, x, "bilinear")
    return _centre(x, *_target(layer))


@kind("RandomCrop", "height width", seed=(), data_format=("channels_last", None))
def _random_crop(layer: Layer, x: Value) -> Value:
    return _resized_and_cropped(layer, x, "bilinear")


def _target(layer: Layer) -> tuple[int, int]:
    return int(layer.options["height"]), int(layer.options["width"])


def _resized_and_cropped(layer: Layer, x: Value, method: str) -> Value:
    """Crop the largest centred part with the target's aspect ratio, and resize it."""
    (height, width, _channels), target = _picture(x).shape, _target(layer)
    cropped_size = min(height, int(width * target[0] / target[1])), min(width, int(height * target[1] / target[0]))
    return resize(layer.net, _centre(x, *cropped_size), *target, method)


def _centre(x: Value, height: int, width: int) -> Value:
    starts = [(side - size) // 2 for side, size in zip(x.shape, (height, width), strict=False)]
    down, across = (
        (start, side - size - start) for start, side, size in zip(starts, x.shape, (height, width), strict=False)
    )
    return replace(_cropped(x, "channels_last", down, across), whole=False)


def _picture(x: Value) -> Value:
    if len(x.shape) != 3:
        raise ModelFormatError(f"it takes pictures, not {(None, *x.shape)}")
    return x
