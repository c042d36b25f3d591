"""A network's twin for training: it learns in a fraction of the epochs, and its weights are folded into the network.

The outputs of every convolution and every dense layer but the last are normalised over the batch (Ioffe and Szegedy
2015). After training, the normalisation is a scale and a shift of each channel, which are folded into the weights and
the bias of the layer before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.mxnet.compat import import_keras

NORM = "_norm"


def build_folded_network(plain: Any, teacher_classes: int = 0, dropout: float = 0) -> Any:
    """Build the twin of a sequential network.

    :param teacher_classes: if not 0, the twin has a second output, a softmax of that many classes over the last layer's
        input; a teacher trains this output, and through it the other layers.
    :param dropout: share of the values that is dropped before every dense layer but the last.
    """
    keras = import_keras()
    layers = keras.layers
    flow = entry = layers.Input(plain.layers[0].batch_input_shape[1:])
    waiting: list[Any] = []
    for layer in plain.layers[:-1]:
        # The normalisation follows the pooling, where there are fewer values: neither the normalisation nor ReLU ever
        # changes which of several values is the largest.
        if not isinstance(layer, layers.MaxPooling2D):
            flow, waiting = _through(waiting, flow), []
        if dropout and isinstance(layer, layers.Dense):
            flow = layers.Dropout(dropout, name=f"{layer.name}_dropout")(flow)
        if isinstance(layer, layers.Conv2D | layers.Dense):
            flow, waiting = _bare(layer)(flow), _normalised_relu(layers, layer.name)
        else:
            flow = _copy(layer)(flow)
    flow = _through(waiting, flow)
    answers = [_copy(plain.layers[-1])(flow)]
    if teacher_classes:
        answers.append(layers.Dense(teacher_classes, activation="softmax", name="teacher")(flow))
    return keras.models.Model(entry, answers)


def fold_weights(twin: Any, plain: Any) -> Any:
    """Fold a trained twin's weights into a network that then computes the same, and return the network."""
    norms = {layer.name: layer for layer in twin.layers if layer.name.endswith(NORM)}
    for layer in plain.layers:
        if not layer.get_weights():
            continue
        trained = twin.get_layer(layer.name).get_weights()
        if norm := norms.get(layer.name + NORM):
            scale, shift = _scale_and_shift(norm)
            # channels first, Keras-MXNet has kernels as MXNet does: (filters, channels, height, width)
            (kernel,) = trained
            trained = [kernel * (scale[:, np.newaxis, np.newaxis, np.newaxis] if kernel.ndim == 4 else scale), shift]
        layer.set_weights(trained)
    return plain


def _bare(layer: Any) -> Any:
    """Return the layer without activation and bias.

    The normalisation has a shift of its own, and Keras-MXNet adds a bias in a step that takes longer than the
    convolution.
    """
    return layer.__class__.from_config(layer.get_config() | {"activation": "linear", "use_bias": False})


def _copy(layer: Any) -> Any:
    return layer.__class__.from_config(layer.get_config())


def _normalised_relu(layers: Any, name: str) -> list[Any]:
    # without a scale of its own, so that it never changes a value's sign
    norm = layers.BatchNormalization(axis=1, scale=False, momentum=0.9, name=name + NORM)
    return [norm, layers.Activation("relu")]


def _through(steps: list[Any], flow: Any) -> Any:
    for step in steps:
        flow = step(flow)
    return flow


def _scale_and_shift(norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Keras-MXNet lists a scale even for a layer without one, and computes with 1
    _, beta, mean, variance = (weights.astype(np.float64) for weights in norm.get_weights())
    scale = 1 / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale
