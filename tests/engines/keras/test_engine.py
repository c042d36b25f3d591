from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.engines.keras.engine import KerasEngine
from app.engines.mxnet.compat import import_keras, quietly
from app.errors import ModelFormatError
from tests.rounding import rounding

TESTDATA = Path(__file__).parent.parent.parent / "testdata"
DRAW = np.random.default_rng(3)


def save(path: Path, layers: Callable[[Any], list[Any]], channels: str) -> list[Any]:
    """Save a network of Keras-MXNet's with random weights, and return the weights of its layers."""
    keras = import_keras()
    keras.backend.set_image_data_format(channels)
    with quietly():
        network = keras.models.Sequential(layers(keras.layers))
    for layer in network.layers:
        layer.set_weights([DRAW.uniform(-1, 1, w.shape) for w in layer.get_weights()])
    network.compile("sgd", "mse")
    network.save(str(path), include_optimizer=False)
    return [layer.get_weights() for layer in network.layers]


def dense_only(layers: Any) -> list[Any]:
    return [layers.Dense(4, activation="relu", input_shape=(6,)), layers.Dense(3, activation="softmax")]


def test_a_dense_network_matches_the_formula(tmp_path: Path) -> None:
    (w1, b1), (w2, b2) = save(tmp_path / "net.h5", dense_only, "channels_first")
    batch = DRAW.normal(size=(5, 6)).astype(np.float32)
    hidden = np.maximum(batch @ w1 + b1, 0)
    logits = np.exp(hidden @ w2 + b2)
    expected = logits / logits.sum(axis=1, keepdims=True)
    assert KerasEngine.load(tmp_path / "net.h5").predict(batch) == pytest.approx(expected, abs=rounding(2, largest=10))


@pytest.mark.parametrize("channels", ["channels_first", "channels_last"])
def test_a_convolution_matches_the_formula_in_both_channel_orders(tmp_path: Path, channels: str) -> None:
    first = channels == "channels_first"

    def layers(known: Any) -> list[Any]:
        return [known.Conv2D(2, (3, 3), input_shape=(3, 5, 4) if first else (5, 4, 3)), known.Flatten()]

    (kernel, bias), _ = save(tmp_path / "net.h5", layers, channels)
    pictures = DRAW.normal(size=(2, 5, 4, 3)).astype(np.float32)
    by_place = kernel.transpose(2, 3, 1, 0) if first else kernel  # to (height, width, in, out)
    expected = np.zeros((2, 3, 2, 2))
    for y in range(3):
        for x in range(2):
            expected[:, y, x] = np.einsum("nhwc,hwco->no", pictures[:, y : y + 3, x : x + 3], by_place) + bias
    engine = KerasEngine.load(tmp_path / "net.h5")
    answer = engine.predict(pictures.transpose(0, 3, 1, 2) if first else pictures)
    # Keras flattens channels-first maps as channels last, so that both orders take the same dense layers
    assert answer == pytest.approx(expected.reshape(2, -1), abs=rounding(1, largest=20))


def test_a_nested_model_of_keras_mxnet_gives_the_same_outputs_after_loading(tmp_path: Path) -> None:
    keras = import_keras()
    keras.backend.set_image_data_format("channels_last")
    layers = keras.layers
    with quietly():
        inner = keras.models.Sequential([layers.Conv2D(3, (3, 3), input_shape=(8, 9, 3)), layers.BatchNormalization()])
        inner.add(layers.Conv2D(3, (3, 3)))
        inner.add(layers.BatchNormalization())
        network = keras.models.Sequential([inner, layers.Flatten(), layers.Dense(2)])
        for layer in inner.layers:
            layer.set_weights([DRAW.uniform(0.2, 0.9, w.shape) for w in layer.get_weights()])
        network.compile("sgd", "mse")
        batch = DRAW.normal(size=(2, 8, 9, 3)).astype(np.float32)
        expected = network.predict(batch)
    network.save(str(tmp_path / "net.h5"), include_optimizer=False)
    assert np.ptp(expected, axis=0).max() > 0.1
    assert KerasEngine.load(tmp_path / "net.h5").predict(batch) == pytest.approx(expected, abs=1e-5)


OVER_TENSORFLOW = [
    f"{keras}_{network}"
    for keras in ("keras", "tf_keras")  # standalone Keras 2.2.4 over TensorFlow 1.15; the Keras of TensorFlow 2.15
    for network in ("sequential", "branches", "depthwise", "nested")
]


@pytest.mark.parametrize("name", [*OVER_TENSORFLOW, "tf_keras_channels_first", "tf_keras_newer"])
def test_a_file_saved_over_tensorflow_answers_as_tensorflow_does(name: str) -> None:
    facts = json.loads((TESTDATA / f"{name}.json").read_text())
    answer = KerasEngine.load(TESTDATA / f"{name}.h5").predict(np.array(facts["pictures"], np.float32))
    assert answer == pytest.approx(np.array(facts["answers"]), abs=rounding(layers=10))


@pytest.mark.parametrize("name", ["keras_with_lambda", "tf_keras_with_lambda"])
def test_a_lambda_layer_is_refused_before_its_code_runs(name: str) -> None:
    with pytest.raises(ModelFormatError, match="Lambda"):
        KerasEngine.load(TESTDATA / f"{name}.h5")


def test_many_threads_get_the_same_results_as_one(tmp_path: Path) -> None:
    save(tmp_path / "net.h5", dense_only, "channels_first")
    engine = KerasEngine.load(tmp_path / "net.h5")
    batches = [DRAW.normal(size=(size, 6)).astype(np.float32) for size in (1, 2, 3, 1, 5, 2, 1, 4)]
    alone = [engine.predict(batch) for batch in batches]
    together: list[Any] = [None] * len(batches)

    def work(number: int) -> None:
        for _ in range(10):
            together[number] = engine.predict(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for item, other in zip(alone, together, strict=True):
        assert np.array_equal(item, other)


def test_two_networks_with_the_same_names_keep_their_own_weights(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", dense_only, "channels_first")
    save(tmp_path / "b.h5", dense_only, "channels_first")
    batch = DRAW.normal(size=(1, 6)).astype(np.float32)
    alone = KerasEngine.load(tmp_path / "a.h5").predict(batch)
    first, second = KerasEngine.load(tmp_path / "a.h5"), KerasEngine.load(tmp_path / "b.h5")
    assert not np.allclose(second.predict(batch), alone)
    assert np.array_equal(first.predict(batch), alone)


def edit_config(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        config = json.loads(text if isinstance(text, str) else text.decode())
        edit(config)
        file.attrs["model_config"] = json.dumps(config)


def second_layer(config: dict[str, Any]) -> dict[str, Any]:
    layers: list[dict[str, Any]] = config["config"]["layers"]
    return layers[1]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda config: second_layer(config).update(class_name="Lambda"), "Lambda"),
        (lambda config: second_layer(config).update(class_name="Wobble"), "Wobble"),
        (lambda config: second_layer(config)["config"].update(groups=2), "groups"),
        (lambda config: second_layer(config)["config"].update(units=7), "shapes"),
        (lambda config: config["config"]["layers"].pop(), "layers"),
        (lambda config: config.update(config=7), "layers"),
    ],
)
def test_an_invalid_architecture_is_refused_with_its_fault(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], named: str
) -> None:
    save(tmp_path / "net.h5", dense_only, "channels_first")
    edit_config(tmp_path / "net.h5", edit)
    with pytest.raises(ModelFormatError, match=named):
        KerasEngine.load(tmp_path / "net.h5")


def test_weights_alone_are_refused_with_the_next_step(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_group("dense_1")
    with pytest.raises(ModelFormatError, match=r"model\.save"):
        KerasEngine.load(tmp_path / "net.h5")


@pytest.mark.parametrize("content", [b"", b"not a file of HDF5", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.h5").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"net\.h5"):
        KerasEngine.load(tmp_path / "net.h5")


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "net.h5", dense_only, "channels_first")
    whole = (tmp_path / "net.h5").read_bytes()
    (tmp_path / "net.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFormatError, match=r"net\.h5"):
        KerasEngine.load(tmp_path / "net.h5")
