"""``same`` padding over Theano and MXNet, written for Keras 3 as explicit padding."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.keras.keras3_writer import write_keras3
from app.engines.keras.network import build, read_network
from app.engines.mxnet.engine import MxnetEngine
from app.errors import ModelFormatError
from app.formats.keras_file import H5Model, read_h5
from app.settings import ROOT
from tests.rounding import rounding

SHAPE = (0, 8, 9, 3)
CONV = {"filters": 3, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same", "activation": "relu"}
POOL = {"pool_size": [3, 3], "strides": [2, 2], "padding": "same"}


def layer(kind: str, name: str, calls: list[tuple[str, int]], **options: Any) -> dict[str, Any]:
    nodes = [[[source, node, 0, {}]] for source, node in calls]
    return {"class_name": kind, "name": name, "config": {"name": name, **options}, "inbound_nodes": nodes}


def model(*layers: Any, sizes: Any = (8, 9), backend: str = "tensorflow", calls: int = 1) -> H5Model:
    """Return a functional model over Theano or MXNet, whose convolutions have random kernels."""
    first = layer("InputLayer", "in", [], batch_input_shape=[None, *sizes, 3])
    described = {"name": "m", "layers": [first, *layers], "input_layers": [["in", 0, 0]]}
    described["output_layers"] = [[layers[-1]["name"], calls - 1, 0]]
    random = np.random.default_rng(3)
    names = [item["name"] for item in layers if item["class_name"] == "Conv2D"]
    weights = tuple((name, (random.normal(size=(3, 3, 3, 3)).astype("f"), np.zeros(3, "f"))) for name in names)
    return H5Model({"class_name": "Model", "config": described}, weights, "2.2.4", backend, backend == "tensorflow")


def written(source: H5Model, path: Path) -> list[dict[str, Any]]:
    """Write a model for Keras 3, compare the answers, and return its layers' descriptions."""
    write_keras3(source, path, SHAPE)
    pictures = np.random.default_rng(4).normal(size=(2, *SHAPE[1:])).astype(np.float32)
    expected = MxnetEngine.of_network(build(source, SHAPE, "")[0]).predict(pictures)
    found = MxnetEngine.of_network(read_network(path, SHAPE)[0]).predict(pictures)
    assert found == pytest.approx(expected, abs=rounding(layers=3) * np.abs(expected).max())
    with zipfile.ZipFile(path) as archive:
        layers: list[dict[str, Any]] = json.loads(archive.read("config.json"))["config"]["layers"]
    return layers


def padding(layers: list[dict[str, Any]]) -> list[Any]:
    return [item["config"]["padding"] for item in layers if item["class_name"] == "ZeroPadding2D"]


@pytest.mark.parametrize(
    ("backend", "sides"),
    # 8 rows give 4, which reach over 9: one more. 9 columns give 5, which reach over 11: two more
    [("mxnet", [[1, 0], [1, 1]]), ("tensorflow", [[1, 0], [1, 1]])],
)
def test_a_convolution_is_padded_with_the_odd_row_at_the_beginning(tmp_path: Path, backend: str, sides: Any) -> None:
    layers = written(model(layer("Conv2D", "c", [("in", 0)], **CONV), backend=backend), tmp_path / "a.keras")
    assert padding(layers) == [sides]
    assert [item["name"] for item in layers] == ["in", "c_padding", "c"]


def test_symmetric_padding_is_left_unchanged(tmp_path: Path) -> None:
    layers = written(model(layer("Conv2D", "c", [("in", 0)], **{**CONV, "strides": [1, 1]})), tmp_path / "a.keras")
    assert padding(layers) == []


def test_every_call_of_a_shared_layer_is_padded(tmp_path: Path) -> None:
    calls = [("in", 0), ("noise", 0)]
    shared = layer("Conv2D", "c", calls, **CONV)
    both = layer("Add", "c_padding", [])  # a name that the layer of padding would get
    both["inbound_nodes"] = [[["c", 0, 0, {}], ["c", 1, 0, {}]]]
    scaled = layer("Activation", "noise", [("in", 0)], activation="tanh")
    layers = written(model(scaled, shared, both), tmp_path / "a.keras")
    assert [item["name"] for item in layers] == ["in", "noise", "c_padding_", "c", "c_padding"]
    assert [len(item["inbound_nodes"]) for item in layers] == [0, 1, 2, 2, 1]


def test_max_pooling_is_padded_with_zeros_only_if_its_input_is_not_negative(tmp_path: Path) -> None:
    conv = layer("Conv2D", "c", [("in", 0)], **{**CONV, "strides": [1, 1]})
    pool = layer("MaxPooling2D", "p", [("d", 0)], **POOL)
    dropout = layer("Dropout", "d", [("c", 0)], rate=0.5)
    assert padding(written(model(conv, dropout, pool), tmp_path / "a.keras")) == [[[1, 0], [1, 1]]]
    conv["config"]["activation"] = "linear"
    with pytest.raises(ModelFormatError, match="its layer p takes the maximum of numbers that may be negative"):
        write_keras3(model(conv, dropout, pool), tmp_path / "b.keras", SHAPE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (model(layer("AveragePooling2D", "p", [("in", 0)], **POOL)), "its layer p excludes its padding from averages"),
        (
            model(layer("Conv2D", "c", [("in", 0), ("c", 0)], **CONV), sizes=(10, 9), calls=2),
            "its layer c pads its inputs, which have several sizes",
        ),
        (model(layer("Conv2D", "c", [("in", 0)], **CONV), sizes=(None, None)), "its layer c pads by the size of the"),
    ],
)
def test_padding_that_zeros_cannot_express_is_refused(tmp_path: Path, source: H5Model, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        write_keras3(source, tmp_path / "a.keras", SHAPE)
    assert not (tmp_path / "a.keras").exists()


def test_keras_mxnet_includes_padding_in_averages(tmp_path: Path) -> None:
    pool = layer("AveragePooling2D", "p", [("in", 0)], **POOL)
    assert padding(written(model(pool, backend="mxnet"), tmp_path / "a.keras")) == [[[1, 0], [1, 1]]]


def test_the_smile_file_answers_as_the_checkpoint_that_its_keras_wrote(tmp_path: Path) -> None:
    smile = ROOT / "models" / "smile"
    pictures = np.random.default_rng(1).uniform(0, 1, (8, 1, 64, 64)).astype(np.float32)
    write_keras3(read_h5(smile / "smile.h5"), tmp_path / "smile.keras")
    found = MxnetEngine.of_network(read_network(tmp_path / "smile.keras")[0]).predict(pictures)
    checkpoint = MxnetEngine.load(
        smile / "smile-symbol.json", smile / "smile-0000.params", "/conv2d_1_input1", (0, 1, 64, 64)
    )
    expected = checkpoint.predict(pictures)
    assert found == pytest.approx(expected, abs=1e-6)
