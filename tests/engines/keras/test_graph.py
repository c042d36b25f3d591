"""Files of tf.keras, against what TensorFlow answered when it loaded them (make_tf_keras_h5.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.engines.keras.engine import KerasEngine
from app.engines.keras.network import read_network
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine
from app.errors import ModelFormatError
from app.types import FloatArray

TESTDATA = Path(__file__).parent.parent.parent / "testdata"
BOUND = 4e-6
"""32 roundings of a float32 of the size of 1: the networks are ten layers deep, and answer numbers of up to 4."""

PICTURES = ["entrance", "nested_frozen", "nested_once", "nested_three", "open_size", "operations", "options", "shared"]
GREY = ["grey_flat", "grey_new_axis", "lines", "recurrent"]
FIXTURES = [f"tf215_{name}" for name in [*PICTURES, *GREY, "teachable"]] + ["tf23_operations", "tf23_teachable"]


def facts(name: str) -> tuple[FloatArray, FloatArray]:
    """Return the input of a file, as pictures with an axis for their channels, and TensorFlow's answer."""
    written = json.loads((TESTDATA / f"{name}.json").read_text())
    pictures, answers = (np.array(written[key], np.float32) for key in ("pictures", "answers"))
    return pictures if pictures.ndim == 4 else pictures[..., np.newaxis], answers


@pytest.fixture
def editable(tmp_path: Path) -> Callable[[str, Callable[[dict[str, Any]], None]], Path]:
    """Copies a file, with another architecture in it."""

    def edit(name: str, change: Callable[[dict[str, Any]], None]) -> Path:
        path = Path(shutil.copy(TESTDATA / f"{name}.h5", tmp_path / "net.h5"))
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path

    return edit


def layer_of(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    """Return the first layer of a kind, in models inside too."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] == class_name:
            return layer  # type: ignore[no-any-return]
        if "layers" in layer["config"]:
            try:
                return layer_of(layer, class_name)
            except LookupError:
                continue
    raise LookupError(class_name)


@pytest.mark.parametrize("name", FIXTURES)
def test_a_file_answers_as_tensorflow_does(name: str) -> None:
    pictures, answers = facts(name)
    assert np.ptp(answers, axis=0).max() > 1000 * BOUND  # two pictures, two answers
    engine = KerasEngine.load(TESTDATA / f"{name}.h5", (0, *pictures.shape[1:]))
    assert engine.predict(pictures) == pytest.approx(answers, abs=BOUND)
    assert engine.predict(pictures[1:]) == pytest.approx(answers[1:], abs=BOUND)


@pytest.mark.parametrize("name", FIXTURES)
def test_openvino_answers_as_tensorflow_does(name: str, tmp_path: Path) -> None:
    pictures, answers = facts(name)
    network, _output = read_network(TESTDATA / f"{name}.h5", (0, *pictures.shape[1:]))
    export_onnx(network, tmp_path / "net.onnx")
    converted = OpenvinoEngine(read_model(tmp_path / "net.onnx")[0])
    assert converted.predict(pictures) == pytest.approx(answers, abs=BOUND)


def test_an_open_size_must_be_given() -> None:
    path = TESTDATA / "tf215_open_size.h5"
    with pytest.raises(ModelFormatError, match=r"\(0, 0, 0, 3\).*--input-size"):
        KerasEngine.load(path)
    assert KerasEngine.load(path, (0, 9, 11, 3)).predict(np.ones((2, 9, 11, 3), np.float32)).shape == (2, 3)
    assert KerasEngine.load(path, (0, 8, 8, 3)).input_shape == (0, 8, 8, 3)


def test_an_open_size_before_a_resizing_layer_is_the_size_of_the_layer(
    editable: Callable[[str, Callable[[dict[str, Any]], None]], Path],
) -> None:
    def change(config: dict[str, Any]) -> None:
        layer_of(config, "InputLayer")["config"]["batch_input_shape"] = [None, None, None, 3]

    engine = KerasEngine.load(editable("tf215_entrance", change))
    assert engine.input_shape == (0, 9, 17, 3)


def set_option(class_name: str, option: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: layer_of(config, class_name)["config"].update({option: value})


def call_with(class_name: str, **options: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: layer_of(config, class_name)["inbound_nodes"][0][0][3].update(options)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("options", set_option("Conv2D", "wobble", 3), "conv2d.*Conv2D with the option wobble=3"),
        ("options", set_option("Conv2D", "padding", "causal"), "conv2d.*padding='causal'"),
        ("options", set_option("Conv2D", "activation", "crelu"), "conv2d.*'crelu'"),
        ("options", set_option("Conv2D", "filters", 8), "conv2d.*shapes"),
        ("options", set_option("UpSampling2D", "interpolation", "lanczos5"), "up_sampling2d.*'lanczos5'"),
        ("options", set_option("Conv2DTranspose", "output_padding", [1, 1]), "conv2d_transpose.*output_padding"),
        ("options", set_option("BatchNormalization", "renorm", True), "batch_normalization.*renorm=True"),
        ("options", set_option("BatchNormalization", "axis", [1, 2]), "batch_normalization.*several axes"),
        ("options", lambda config: layer_of(config, "PReLU").update(class_name="Wobble"), "p_re_lu.*'Wobble'"),
        ("options", lambda config: layer_of(config, "ReLU").update(class_name="Custom>ReLU"), "re_lu.*'Custom>ReLU'"),
        ("options", call_with("BatchNormalization", training=True), "batch_normalization.*training=True"),
        ("recurrent", set_option("GRU", "stateful", True), "gru.*stateful=True"),
        ("recurrent", set_option("Bidirectional", "merge_mode", None), "bidirectional.*merge_mode"),
        ("operations", set_option("TFOpLambda", "function", "linalg.det"), "tf.nn.bias_add.*tf.linalg.det"),
        ("entrance", set_option("Resizing", "interpolation", "gaussian"), "resizing.*'gaussian'"),
        ("nested_once", set_option("BatchNormalization", "center", False), "b has 10 arrays.*11"),
    ],
)
def test_an_unsupported_layer_is_refused_by_name(
    editable: Callable[[str, Callable[[dict[str, Any]], None]], Path], name: str, change: Any, reason: str
) -> None:
    with pytest.raises(ModelFormatError, match=reason):
        KerasEngine.load(editable(f"tf215_{name}", change))


def test_weights_in_another_order_than_their_layers_are_refused(tmp_path: Path) -> None:
    path = Path(shutil.copy(TESTDATA / "tf215_nested_once.h5", tmp_path / "net.h5"))
    with h5py.File(path, "r+") as file:
        group = file["model_weights/b"]
        given = [name if isinstance(name, str) else name.decode() for name in group.attrs["weight_names"]]
        names = [name.replace("b_n", "x_n") for name in given]
        for old, new in zip(given, names, strict=True):
            if old != new:
                group.move(old, new)
        gamma = names.index("x_n1/gamma:0")
        mean = names.index("x_n1/moving_mean:0")
        names[gamma], names[mean] = names[mean], names[gamma]
        group.attrs["weight_names"] = np.array([name.encode() for name in names])
    with pytest.raises(ModelFormatError, match="b_n1 would get the array moving_mean of the file as its gamma"):
        KerasEngine.load(path)


def test_an_interpolation_that_is_ambiguous_in_the_version_is_refused(tmp_path: Path) -> None:
    path = Path(shutil.copy(TESTDATA / "tf215_options.h5", tmp_path / "net.h5"))
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["keras_version"] = "2.2.4-tf"
    with pytest.raises(ModelFormatError, match=r"up_sampling2d.*'bilinear' of Keras 2\.2\.4-tf"):
        KerasEngine.load(path)


def test_another_backend_is_refused_by_name(tmp_path: Path) -> None:
    path = Path(shutil.copy(TESTDATA / "tf215_shared.h5", tmp_path / "net.h5"))
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = "cntk"
    with pytest.raises(ModelFormatError, match="'cntk'"):
        KerasEngine.load(path)
