"""Keras-MXNet: what the ``.h5`` file of a model means."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Network
from app.engines.compat import import_keras, quietly
from app.engines.keras_config import adapt
from app.engines.keras_tensorflow import tensorflow_arithmetic
from app.errors import ModelFormatError
from app.formats.keras_h5 import H5Model, read_h5
from app.long_waits import long_wait
from app.types import FloatArray, TensorSpec

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
        """Open an ``.h5`` file, saved by Keras-MXNet, or by Keras 1.2 to 2 over TensorFlow or Theano.

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
    def output(self) -> TensorSpec:
        """Name of the output layer, and its shape with the batch axis."""
        return TensorSpec(str(self._network.output_names[0]), tuple(size or 0 for size in self._network.output_shape))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input's shape with its batch axis; 0 stands for any size."""
        return tuple(size or 0 for size in self._network.input_shape)

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch (N, …) -> (N, classes), from any thread at any time."""
        long_wait()
        with self._lock:
            answer: FloatArray = self._network.predict(batch, batch_size=len(batch))
        return answer.reshape(len(batch), -1)

    def network(self) -> Network:
        """Describe the network as Keras-MXNet computes it: the graph that it built, and the parameters bound to it."""
        with self._lock:
            symbol = self._network._pred_mxnet_symbol[0]  # beside the answer it has what training updates
            arguments, states = self._network._module.get_params()
            name = str(self._network.inputs[0].name)
        arrays = {key: array.asnumpy() for key, array in {**arguments, **states}.items()}
        return Network(json.loads(symbol.tojson()), arrays, name, self.input_shape[1:])

    def close(self) -> None:
        """Let go of the network. It cannot predict after that."""
        with self._lock:
            self._network = None


def _build(file: H5Model) -> Any:
    keras = import_keras()
    from app.engines.keras_layers import ACTIVATIONS, LAYERS

    backend = keras.backend
    order = backend.image_data_format()
    try:
        backend.set_image_data_format("channels_last")  # what a file means by an axis of -1, and where it says nothing
        # learned over TensorFlow, it means TensorFlow's sums; learned over MXNet, it means MXNet's
        theirs = file.backend == "tensorflow"
        with (
            tensorflow_arithmetic(backend, file.theano) if theirs else contextlib.nullcontext(),
            keras.utils.CustomObjectScope({**LAYERS, **ACTIVATIONS}),
        ):
            network = keras.layers.deserialize(adapt(file.config, keras.layers, LAYERS))
    finally:
        backend.set_image_data_format(order)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelFormatError("it has more than one input or output; an image classifier has one of each")
    _fill(network, file)
    network.compile(optimizer="sgd", loss="mse")  # Keras-MXNet predicts only what is compiled; neither is used
    return network


def _fill(network: Any, file: H5Model) -> None:
    """Give the network the file's weights."""
    layers = [layer for layer in network.layers if layer.weights]
    if len(layers) != len(file.weights):
        raise ModelFormatError(f"it has {len(layers)} layers with weights, and holds those of {len(file.weights)}")
    for layer, (name, arrays) in zip(layers, file.weights, strict=True):
        ready = _as_mxnet(layer, arrays, file)
        shapes, wanted = [a.shape for a in ready], [tuple(w.shape) for w in layer.get_weights()]
        if shapes != wanted:
            raise ModelFormatError(f"its layer {name} has weights of the shapes {shapes}, not {wanted}")
        layer.set_weights(ready)


def _warm_up(network: Any) -> None:
    """Predict once: Keras-MXNet binds its executor at the first prediction, and has its say on it."""
    network.predict(np.zeros([size or 1 for size in network.input_shape], np.float32), batch_size=1)


def _as_mxnet(layer: Any, arrays: tuple[NDArray[Any], ...], file: H5Model) -> list[NDArray[Any]]:
    """The weights of a layer as Keras-MXNet has them."""
    from keras.engine import saving

    kind, ready = type(layer).__name__, list(arrays)
    if kind == "BatchNormalization" and len(ready) < len(layer.weights):
        # Keras-MXNet lists a scale of 1 and a shift of 0 where other backends have none
        ready = ready if layer.scale else [np.ones_like(arrays[-1]), *ready]
        ready = ready if layer.center else [ready[0], np.zeros_like(arrays[-1]), *ready[1:]]
    if kind == "Normalization":
        ready = [one.reshape(-1) for one in ready[:2]]  # beside mean and variance it counts what they were learned from
    if kind == "DepthwiseConv2D" and file.backend == "tensorflow" and layer.data_format == "channels_first":
        ready[0] = ready[0].transpose(2, 3, 0, 1)
    if kind == "Conv2D" and file.backend == "tensorflow" and layer.data_format == "channels_first":
        # (height, width, in, out) to MXNet's (out, in, height, width); Keras-MXNet does it where the shapes tell, and
        # 3 x 3 x 3 x 3 does not tell
        ready[0] = ready[0].transpose(3, 2, 0, 1)
    converted: list[NDArray[Any]] = saving.preprocess_weights_for_loading(
        layer, ready, file.keras_version, file.backend
    )
    return converted
