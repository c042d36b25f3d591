"""Files of Keras-MXNet, converted without it, against what Keras-MXNet itself computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.keras.network import read_network
from app.engines.mxnet.compat import import_keras, quietly
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine

CHANNELS_FIRST = (3, 9, 12)
CHANNELS_LAST = (9, 12, 3)


def layers() -> Any:
    return import_keras().layers


def convolution(**options: Any) -> Any:
    return layers().Conv2D(4, **{"kernel_size": (3, 2), "padding": "same", **options})


BODIES: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "convolution": lambda order: [convolution(activation="relu", **order)],
    "strides of 2": lambda order: [convolution(strides=2, **order), convolution(kernel_size=4, strides=3, **order)],
    "dilated, no bias": lambda order: [convolution(dilation_rate=2, padding="valid", use_bias=False, **order)],
    "depthwise": lambda order: [layers().DepthwiseConv2D(3, padding="same", strides=2, **order)],
    "separable": lambda order: [layers().SeparableConv2D(5, 3, padding="same", activation="tanh", **order)],
    "transposed": lambda order: [layers().Conv2DTranspose(4, 2, strides=2, **order)],
    "maxima": lambda order: [convolution(**order), layers().MaxPooling2D(3, strides=2, padding="same", **order)],
    "averages": lambda order: [convolution(**order), layers().AveragePooling2D(3, strides=2, padding="same", **order)],
    "averages of 2": lambda order: [convolution(**order), layers().AveragePooling2D(2, padding="same", **order)],
    "averages by steps of 1": lambda order: [
        convolution(**order),
        layers().AveragePooling2D(3, strides=1, padding="same", **order),
    ],
    "valid": lambda order: [convolution(**order), layers().MaxPooling2D((2, 3), strides=(1, 2), **order)],
    "global averages": lambda order: [convolution(**order), layers().GlobalAveragePooling2D(**order)],
    "global maxima": lambda order: [convolution(**order), layers().GlobalMaxPooling2D(**order)],
    "padding and cropping": lambda order: [
        layers().ZeroPadding2D(((1, 0), (2, 1)), **order),
        layers().Cropping2D(((0, 1), (1, 2)), **order),
        convolution(**order),
    ],
    "enlarged": lambda order: [layers().UpSampling2D((2, 3), **order), convolution(**order)],
    "normalized": lambda order: [
        convolution(**order),
        layers().BatchNormalization(axis=1 if order["data_format"] == "channels_first" else -1, epsilon=0.01),
    ],
    "normalized, no scale": lambda order: [
        convolution(**order),
        layers().BatchNormalization(axis=1 if order["data_format"] == "channels_first" else -1, scale=False),
    ],
    "normalized, no shift": lambda order: [
        convolution(**order),
        layers().BatchNormalization(axis=1 if order["data_format"] == "channels_first" else -1, center=False),
        layers().Dropout(0.5),
    ],
    **{
        f"activation {name}": lambda order, name=name: [convolution(**order), layers().Activation(name)]  # type: ignore[misc]
        for name in ("relu", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "hard_sigmoid", "exponential")
    },
    "leaky": lambda order: [convolution(**order), layers().LeakyReLU(0.2)],
    "exponential unit": lambda order: [convolution(**order), layers().ELU(0.7)],
    "learned slopes": lambda order: [convolution(**order), layers().PReLU()],
    "above a threshold": lambda order: [convolution(**order), layers().ThresholdedReLU(0.2)],
    "up to 6": lambda order: [convolution(**order), layers().ReLU(6.0)],
    "shapes": lambda order: [
        convolution(**order),
        layers().Permute((2, 3, 1)),
        layers().Reshape((-1, 6)),
        layers().Flatten(),
    ],
}


def randomize(model: Any) -> None:
    """Give every array values that change its layer's answers."""
    draw = np.random.default_rng(3)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            randomize(layer)
            continue
        arrays = [draw.normal(0, 0.4, array.shape) for array in layer.get_weights()]
        if layer.__class__.__name__ == "BatchNormalization":
            arrays[-1] = draw.uniform(0.5, 2, arrays[-1].shape)
        if layer.__class__.__name__ == "Dense":  # many small numbers, so that softmax does not saturate
            arrays = [array / 20 for array in arrays]
        layer.set_weights(arrays)


def saved(model: Any, path: Path) -> None:
    model.compile("sgd", "mse")
    randomize(model)
    with quietly():
        model.save(str(path))


def converted(path: Path, folder: Path) -> OpenvinoEngine:
    network, _output = read_network(path)
    export_onnx(network, folder / "net.onnx")
    return OpenvinoEngine(read_model(folder / "net.onnx")[0])


@pytest.mark.parametrize("order", [pytest.param("channels_first", marks=pytest.mark.slow), "channels_last"])
@pytest.mark.parametrize("name", BODIES)
def test_a_layer_computes_as_in_keras_mxnet(tmp_path: Path, name: str, order: str) -> None:
    keras = import_keras()
    shape = CHANNELS_FIRST if order == "channels_first" else CHANNELS_LAST
    with quietly():
        body = BODIES[name]({"data_format": order})
        last = [layers().Dense(3, activation="softmax")]
        if "global" not in name and name != "shapes":
            last.insert(0, layers().Flatten(data_format=order))
        picture = value = layers().Input(shape)
        for layer in (*body, *last):
            value = layer(value)
        model = keras.models.Model(picture, value)
        saved(model, tmp_path / "net.h5")
        batch = np.random.default_rng(4).normal(size=(2, *shape)).astype(np.float32)
        expected = model.predict(batch, batch_size=2)
    assert np.ptp(expected, axis=0).max() > 1e-3  # two pictures, two answers
    assert converted(tmp_path / "net.h5", tmp_path).predict(batch) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_branches_and_nested_models_compute_as_in_keras_mxnet(tmp_path: Path, order: str) -> None:
    keras, first = import_keras(), order == "channels_first"
    shape, axis = (CHANNELS_FIRST, 1) if first else (CHANNELS_LAST, -1)
    with quietly():
        options = {"data_format": order}
        inner = keras.models.Sequential(
            [
                convolution(strides=2, input_shape=shape, **options),
                layers().BatchNormalization(axis=axis, scale=False, center=False),
            ]
        )
        picture = layers().Input(shape)
        left, right = inner(picture), convolution(strides=2, kernel_size=5, **options)(picture)
        both = layers().concatenate([layers().add([left, right]), layers().multiply([left, right])], axis=axis)
        both = layers().concatenate([both, layers().maximum([left, right])], axis=axis)
        row = layers().GlobalAveragePooling2D(**options)(both)
        model = keras.models.Model(picture, layers().Dense(4, activation="softmax")(row))
        saved(model, tmp_path / "net.h5")
        batch = np.random.default_rng(5).normal(size=(2, *shape)).astype(np.float32)
        expected = model.predict(batch, batch_size=2)
    assert np.ptp(expected, axis=0).max() > 1e-3
    assert converted(tmp_path / "net.h5", tmp_path).predict(batch) == pytest.approx(expected, abs=5e-6)
