"""The networks that Dimple trains and ships, as they are served."""

from __future__ import annotations

from typing import Any

from app.engines.compat import import_keras
from app.errors import DimpleError

DOGCAT_PARAMETERS = 1_212_513


def smile_tutorial_network() -> Any:
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


def smile_network() -> Any:
    """Eight convolutions 3x3 in four pairs, averaged over the picture: (N, 1, 64, 64) grey, 0-1 -> (N, 2) softmax.

    26 million multiplications a face: the first convolution takes every other pixel.
    """
    keras = _channels_first()
    layers = keras.layers
    network = keras.models.Sequential()
    for pair, filters in enumerate((24, 48, 96, 128)):
        first = {"strides": 2, "input_shape": (1, 64, 64)} if pair == 0 else {}
        network.add(_convolution(layers, filters, 2 * pair + 1, **first))
        network.add(_convolution(layers, filters, 2 * pair + 2))
        if pair < 3:
            network.add(layers.MaxPooling2D((2, 2), name=f"max_pooling2d_{pair + 1}"))
            network.add(layers.Dropout(0.1, name=f"dropout_{pair + 1}"))
    network.add(layers.GlobalAveragePooling2D(name="global_average_pooling2d_1"))
    network.add(layers.Dropout(0.4, name="dropout_4"))
    network.add(layers.Dense(2, activation="softmax", name="dense_1"))
    return network


def _convolution(layers: Any, filters: int, number: int, **more: Any) -> Any:
    return layers.Conv2D(filters, (3, 3), padding="same", activation="relu", name=f"conv2d_{number}", **more)


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


def _channels_first() -> Any:
    keras = import_keras()
    keras.backend.set_image_data_format("channels_first")
    return keras
