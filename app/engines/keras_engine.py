"""Keras-MXNet: what the ``.h5`` file of a model means."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.compat import import_keras, quietly
from app.engines.keras_config import adapt
from app.errors import ModelFormatError
from app.formats.keras_h5 import H5Model, read_h5
from app.types import FloatArray

# Keras names layers and changes its default channel order in globals: two models must not be built at once.
_building = threading.Lock()


class KerasEngine:
    """A Keras model of one input and one output."""

    def __init__(self, network: Any) -> None:
        self._network: Any = network
        # Keras-MXNet binds and feeds one executor per model, so two predictions must not meet in it.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> KerasEngine:
        """Open a whole-model ``.h5`` file, saved by Keras-MXNet, or by Keras 2 over TensorFlow.

        :raises ModelFormatError: where it cannot be read, or holds what Keras 2.2.4 cannot compute.
        """
        file = read_h5(path)
        with _building:
            try:
                with quietly():
                    network = _build(file)
                    _warm_up(network)
            except ModelFormatError as error:
                raise ModelFormatError(f"{path} cannot be served: {error}") from None
            except Exception as error:  # Keras checks little: whatever a broken description makes it stumble over
                raise ModelFormatError(f"{path} describes no network that Keras can build: {error}") from None
        return cls(network)

    @property
    def input_name(self) -> str:
        """Name of the input layer."""
        return str(self._network.input_names[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input's shape with its batch axis; 0 stands for any size."""
        return tuple(size or 0 for size in self._network.input_shape)

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch (N, …) -> (N, classes), from any thread at any time."""
        with self._lock:
            answer: FloatArray = self._network.predict(batch, batch_size=len(batch))
        return answer.reshape(len(batch), -1)

    def close(self) -> None:
        """Let go of the network. It cannot predict after that."""
        with self._lock:
            self._network = None


def _build(file: H5Model) -> Any:
    keras = import_keras()
    from keras.engine import saving

    network = keras.layers.deserialize(adapt(file.config, keras.layers))
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelFormatError("it has more than one input or output; an image classifier has one of each")
    layers = [layer for layer in network.layers if layer.weights]
    if len(layers) != len(file.weights):
        raise ModelFormatError(f"it describes {len(layers)} layers with weights, and holds those of {len(file.weights)}")
    for layer, (name, arrays) in zip(layers, file.weights, strict=True):
        ready = saving.preprocess_weights_for_loading(layer, _as_mxnet(layer, arrays), file.keras_version, file.backend)
        shapes, wanted = [a.shape for a in ready], [tuple(w.shape) for w in layer.get_weights()]
        if shapes != wanted:
            raise ModelFormatError(f"its layer {name} has weights of the shapes {shapes}, not {wanted}")
        layer.set_weights(ready)
    network.compile(optimizer="sgd", loss="mse")  # Keras-MXNet predicts only what is compiled; neither is used
    return network


def _warm_up(network: Any) -> None:
    """Predict once: Keras-MXNet binds its executor at the first prediction, and has its say on it."""
    network.predict(np.zeros([size or 1 for size in network.input_shape], np.float32), batch_size=1)


def _as_mxnet(layer: Any, arrays: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
    """Add the scale of 1 that Keras-MXNet lists, and other backends do not, where a normalisation has none."""
    if type(layer).__name__ == "BatchNormalization" and len(arrays) == len(layer.weights) - 1 and not layer.scale:
        return [np.ones_like(arrays[0]), *arrays]
    return list(arrays)
