"""The Keras engine, which defines what the ``.h5`` file of a model means.

A file of Keras-MXNet means what Keras-MXNet computes. A file that was saved over TensorFlow or Theano means what that
library computes, and is built from MXNet's operations.
"""

from __future__ import annotations

import inspect
import json
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.engines.base import Network
from app.engines.keras.network import build
from app.engines.mxnet.compat import import_keras, quietly
from app.engines.mxnet.engine import MxnetEngine
from app.errors import ModelFormatError
from app.formats.keras_file import H5Model, read_h5
from app.formats.keras_graph import MODELS
from app.types import FloatArray, TensorSpec
from app.utils.dispatch import about_to_block

KERAS_MXNET = "keras-mxnet"
_EVERY_LAYER = {"name", "trainable", "dtype", "batch_input_shape", "batch_size"}


def check_known(node: Any, layers: Any) -> None:
    """Check the description of a model or layer, ``{"class_name", "config", …}``, and of all nested ones.

    :param layers: the module ``keras.layers`` that will build them.
    :raises ModelFormatError: if the module does not know a layer or one of its options.
    """
    name, config = str(node.get("class_name")), node.get("config")
    if name in MODELS:
        listed = config.get("layers") if isinstance(config, dict) else config
        if not isinstance(listed, list):
            raise ModelFormatError("its model_config describes no layers")
        for layer in listed:
            check_known(layer, layers)
        return
    kind = getattr(layers, name, None)
    if kind is None or not isinstance(config, dict):
        named = config.get("name") if isinstance(config, dict) else None
        raise ModelFormatError(f"its layer {named} is of the kind {name!r}, which Keras 2.2.4 does not know")
    known = inspect.signature(kind.__init__).parameters
    for option, value in config.items():
        if option not in known and option not in _EVERY_LAYER:
            raise ModelFormatError(
                f"its layer {config.get('name')} is a {name} with {option}={value!r}, which Keras 2.2.4 does not know"
            )
    if isinstance(config.get("layer"), dict):  # TimeDistributed and similar layers wrap another layer
        check_known(config["layer"], layers)


# Keras keeps layer names and its default channel order in globals, so models must be built one after another.
_building = threading.Lock()


class _Computing(Protocol):
    """The interface of an object that computes a network."""

    def predict(self, batch: FloatArray) -> FloatArray: ...

    def network(self) -> Network: ...

    def close(self) -> None: ...


class KerasEngine:
    """A Keras model of one input and one output."""

    def __init__(self, computing: _Computing, package: str, input_shape: tuple[int, ...], output: TensorSpec) -> None:
        """Store the objects that :meth:`load` has built; the shapes have the batch axis, and 0 for any size."""
        self._computing = computing
        self.package = package
        self.input_shape = input_shape
        self.output = output

    @classmethod
    def load(cls, path: Path, input_shape: tuple[int, ...] | None = None, output: str = "") -> KerasEngine:
        """Open an ``.h5`` or a ``.keras`` file, saved by Keras-MXNet, or by Keras 1.2 to 3 over another backend.

        :param input_shape: shape of the input with the batch axis, whose size is ignored; it provides the sizes that
            the file leaves open.
        :param output: the name of the output to use if there are several.
        :raises ModelFormatError: if the file cannot be read, has a layer that cannot be computed, or has another input.
        """
        file = read_h5(path)
        with _building:
            try:
                with quietly():
                    if (package := package_of(file)) == KERAS_MXNET:
                        model = _build(file)
                        return cls(_KerasMxnet(model), package, *_shapes(model))
                    network, result = build(file, input_shape, output)
                    engine = MxnetEngine.of_network(network)
                    engine.predict(np.zeros((1, *network.row_shape), np.float32))
                    return cls(engine, package, (0, *network.row_shape), result)
            except ModelFormatError as error:
                raise ModelFormatError(f"{path} cannot be served: {error}") from None
            except Exception as error:  # Keras checks little, so a broken description may raise anything
                raise ModelFormatError(f"{path} describes no network that Keras can build: {error}") from None

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch (N, …) -> (N, classes), from any thread at any time."""
        return self._computing.predict(batch)

    def network(self) -> Network:
        """Return the network as MXNet computes it: its graph, and the parameters bound to it."""
        return self._computing.network()

    def close(self) -> None:
        """Release the network; ``predict`` must not be called after that."""
        self._computing.close()


def package_of(file: H5Model) -> str:
    """Return the package that computes a file: ``keras-mxnet``, or ``mxnet`` for the files of other Keras."""
    return KERAS_MXNET if file.backend == "mxnet" else "mxnet"


def _shapes(model: Any) -> tuple[tuple[int, ...], TensorSpec]:
    """Return the shape of a Keras model's input, and its output; 0 stands for any size."""
    output = TensorSpec(str(model.output_names[0]), tuple(size or 0 for size in model.output_shape))
    return tuple(size or 0 for size in model.input_shape), output


class _KerasMxnet:
    def __init__(self, network: Any) -> None:
        self._network: Any = network
        # Keras-MXNet binds and feeds one executor per model, so predictions must not overlap.
        self._lock = threading.Lock()

    def predict(self, batch: FloatArray) -> FloatArray:
        about_to_block()
        with self._lock:
            answer: FloatArray = self._network.predict(batch, batch_size=len(batch))
        return answer.reshape(len(batch), -1)

    def network(self) -> Network:
        with self._lock:
            symbol = self._network._pred_mxnet_symbol[0]  # the other outputs are updates for training
            arguments, states = self._network._module.get_params()
            name = str(self._network.inputs[0].name)
            shape = tuple(size or 0 for size in self._network.input_shape[1:])
        arrays = {key: array.asnumpy() for key, array in {**arguments, **states}.items()}
        return Network(json.loads(symbol.tojson()), arrays, name, shape)

    def close(self) -> None:
        with self._lock:
            self._network = None


def _build(file: H5Model) -> Any:
    keras = import_keras()
    backend = keras.backend
    order = backend.image_data_format()
    try:
        backend.set_image_data_format("channels_last")  # the meaning of an axis of -1 in a file, and the default
        check_known(file.config, keras.layers)
        network = keras.layers.deserialize(file.config)
    finally:
        backend.set_image_data_format(order)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelFormatError("it has more than one input or output; an image classifier has one of each")
    _fill(network, file)
    network.compile(optimizer="sgd", loss="mse")  # Keras-MXNet requires it for predictions; neither argument is used
    # Keras-MXNet binds its executor at the first prediction, and prints messages about it
    network.predict(np.zeros([size or 1 for size in network.input_shape], np.float32), batch_size=1)
    return network


def _fill(network: Any, file: H5Model) -> None:
    """Load the file's weights into the network."""
    from keras.engine import saving

    layers = [layer for layer in network.layers if layer.weights]
    if len(layers) != len(file.weights):
        raise ModelFormatError(f"it has {len(layers)} layers with weights, and holds those of {len(file.weights)}")
    for layer, (name, arrays) in zip(layers, file.weights, strict=True):
        ready = saving.preprocess_weights_for_loading(layer, list(arrays), file.keras_version, file.backend)
        shapes, expected = [a.shape for a in ready], [tuple(w.shape) for w in layer.weights]
        if shapes != expected:
            raise ModelFormatError(f"its layer {name} has weights of the shapes {shapes}, not {expected}")
        # not set_weights(): for a nested model, the file lists trainable weights first, and then the rest
        import_keras().backend.batch_set_value(list(zip(layer.weights, ready, strict=True)))
