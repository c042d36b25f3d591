"""The two networks that Dimple trains and ships."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.compat import import_keras
from app.errors import DimpleError

DOGCAT_PARAMETERS = 1_212_513
NORM = "_norm"


def smile_network() -> Any:
    """The smile network of the SMILEsmileD tutorials: (N, 1, 32, 32) grey, 0-1 -> (N, 2) softmax.

    Two convolutions of 32 filters 3x3, max pooling, dropout, a dense layer of 128, dropout, two classes.
    """
    keras = _channels_first()
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu", input_shape=(1, 32, 32), name="conv2d_1"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv2d_2"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Dropout(0.25, name="dropout_1"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(128, activation="relu", name="dense_1"),
            layers.Dropout(0.5, name="dropout_2"),
            layers.Dense(2, activation="softmax", name="dense_2"),
        ]
    )


def dogcat_network() -> Any:
    """The network of the Keras blog's "image classification using very little data".

    It takes (N, 3, 150, 150) RGB, 0-1, and gives (N, 1), the probability of a dog.

    Three convolutions of 32, 32 and 64 filters 3x3, each with ReLU and max pooling; a dense layer of 64, dropout, one
    sigmoid. The blog has the channels last; first is what MXNet computes fast, and the parameters are as many.

    :raises DimpleError: where the parameters are not as many as the blog's.
    """
    keras = _channels_first()
    layers = keras.layers
    network = keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu", input_shape=(3, 150, 150), name="conv2d_1"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv2d_2"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_2"),
            layers.Conv2D(64, (3, 3), activation="relu", name="conv2d_3"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_3"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(64, activation="relu", name="dense_1"),
            layers.Dropout(0.5, name="dropout_1"),
            layers.Dense(1, activation="sigmoid", name="dense_2"),
        ]
    )
    if network.count_params() != DOGCAT_PARAMETERS:
        raise DimpleError(f"the cat/dog network has {network.count_params()} parameters, not {DOGCAT_PARAMETERS}")
    return network


def smile_training_network() -> Any:
    """The smile network as it is trained; see :func:`fold_normalisation`."""
    keras = _channels_first()
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), input_shape=(1, 32, 32), name="conv2d_1"),
            *_normalised_relu(layers, "conv2d_1"),
            layers.Conv2D(32, (3, 3), name="conv2d_2"),
            layers.MaxPooling2D((2, 2)),
            *_normalised_relu(layers, "conv2d_2"),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, name="dense_1"),
            *_normalised_relu(layers, "dense_1"),
            layers.Dropout(0.5),
            layers.Dense(2, activation="softmax", name="dense_2"),
        ]
    )


def dogcat_training_network() -> Any:
    """The cat/dog network as it is trained; see :func:`fold_normalisation`."""
    keras = _channels_first()
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(32, (3, 3), input_shape=(3, 150, 150), name="conv2d_1"),
            layers.MaxPooling2D((2, 2)),
            *_normalised_relu(layers, "conv2d_1"),
            layers.Conv2D(32, (3, 3), name="conv2d_2"),
            layers.MaxPooling2D((2, 2)),
            *_normalised_relu(layers, "conv2d_2"),
            layers.Conv2D(64, (3, 3), name="conv2d_3"),
            layers.MaxPooling2D((2, 2)),
            *_normalised_relu(layers, "conv2d_3"),
            layers.Flatten(),
            layers.Dense(64, name="dense_1"),
            *_normalised_relu(layers, "dense_1"),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid", name="dense_2"),
        ]
    )


def fold_normalisation(trained: Any, plain: Any) -> Any:
    """Give a plain network the weights with which it computes what the trained one does, and return it.

    Networks with batch normalisation learn in a fraction of the epochs (Ioffe and Szegedy 2015). Once trained, it is a
    scale and a shift of every channel, which go into the layer before. It was given no scale of its own, so it never
    turns a value's sign: max pooling between the two changes nothing.
    """
    norms = {layer.name: layer for layer in trained.layers if layer.name.endswith(NORM)}
    for layer in plain.layers:
        if not layer.get_weights():
            continue
        kernel, bias = trained.get_layer(layer.name).get_weights()
        if norm := norms.get(layer.name + NORM):
            scale, shift = _scale_and_shift(norm)
            # channels first, Keras-MXNet has kernels as MXNet does: (filters, channels, height, width)
            kernel = kernel * (scale[:, np.newaxis, np.newaxis, np.newaxis] if kernel.ndim == 4 else scale)
            bias = bias * scale + shift
        layer.set_weights([kernel, bias])
    return plain


def _scale_and_shift(norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Keras-MXNet lists a scale of the layer's own even where it has none, and computes with 1
    _, beta, mean, variance = (weights.astype(np.float64) for weights in norm.get_weights())
    scale = 1 / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def _normalised_relu(layers: Any, name: str) -> tuple[Any, Any]:
    norm = layers.BatchNormalization(axis=1, scale=False, momentum=0.9, name=name + NORM)
    return norm, layers.Activation("relu")


def _channels_first() -> Any:
    keras = import_keras()
    keras.backend.set_image_data_format("channels_first")
    return keras
