"""Networks that MXNet's exporter cannot write, or writes wrongly, computed by OpenVINO as by MXNet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.base import Network
from app.engines.mxnet.engine import MxnetEngine, read_checkpoint
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine
from app.errors import ModelFormatError
from app.formats.mxnet_params import write_params
from tests.engines.networks import (
    SHAPE,
    classifier,
    convolution,
    dense,
    mx,
    pictures,
    random_params,
    write_checkpoint,
)
from tests.rounding import rounding

sym = mx.sym


def pooled(maps: Any, **options: Any) -> Any:
    return sym.Pooling(maps, **{"kernel": (3, 3), "stride": (2, 2), "pool_type": "max", **options})


def averaged(maps: Any) -> Any:
    return sym.Pooling(maps, global_pool=True, kernel=(1, 1), pool_type="avg")


def shuffled(maps: Any) -> Any:
    return sym.reshape(sym.swapaxes(sym.reshape(maps, shape=(0, -4, 2, 2, -2)), 1, 2), shape=(0, -3, -2))


LOSSES: dict[str, Callable[[], Any]] = {
    "loss of classes": lambda: sym.SoftmaxOutput(dense(convolution()), name="softmax"),
    "loss with a label of its own": lambda: sym.SoftmaxOutput(
        dense(convolution()), label=sym.var("truth_label"), name="softmax"
    ),
    "loss over maps": lambda: sym.SoftmaxOutput(averaged(convolution(filters=5)), multi_output=True, name="softmax"),
    "activation of rows": lambda: sym.SoftmaxActivation(dense(convolution())),
    "activation of channels": lambda: sym.SoftmaxActivation(convolution(filters=5), mode="channel"),
    "logistic loss": lambda: sym.LogisticRegressionOutput(dense(convolution()), name="out"),
    "linear loss": lambda: sym.LinearRegressionOutput(dense(convolution()), name="out"),
    "margin loss": lambda: sym.SVMOutput(dense(convolution()), name="out"),
    "loss of one's own": lambda: sym.MakeLoss(classifier(convolution())),
    "gradient kept back": lambda: sym.BlockGrad(classifier(convolution())),
    "softmax, cooled": lambda: sym.softmax(dense(convolution()), temperature=2.0),
    "two answers": lambda: sym.Group([classifier(convolution()), sym.Flatten(convolution(name="other"))]),
}
BODIES: dict[str, Callable[[Any], Any]] = {
    "normalization, scale fixed by default": lambda maps: sym.BatchNorm(maps, name="bn"),
    "normalization with a scale": lambda maps: sym.BatchNorm(maps, fix_gamma=False, eps=2e-5, name="bn"),
    "normalization along the last axis": lambda maps: sym.BatchNorm(maps, fix_gamma=False, axis=3, name="bn"),
    "layer on maps": lambda maps: sym.reshape(sym.FullyConnected(maps, num_hidden=6, name="inner"), shape=(0, -1)),
    "reshape, rest": lambda maps: sym.reshape(maps, shape=(0, -1, 4)),
    "reshape, merged": lambda maps: sym.reshape(maps, shape=(0, 0, -3)),
    "channels shuffled": shuffled,
    "pooling, rounded down": lambda maps: pooled(maps, pool_type="avg", pad=(1, 1)),
    "pooling, rounded up": lambda maps: pooled(maps, pooling_convention="full"),
    "pooling in single steps, rounded up": lambda maps: pooled(
        maps, pool_type="avg", pad=(1, 1), stride=(1, 1), pooling_convention="full"
    ),
    "pooling without its padding": lambda maps: pooled(maps, pool_type="avg", pad=(1, 1), count_include_pad=False),
    "deconvolution": lambda maps: sym.Deconvolution(
        maps, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 1), num_filter=3, name="deconv"
    ),
    "groups, dilated": lambda maps: convolution(maps, name="inner", num_group=2, dilate=(2, 2), pad=(2, 2)),
    "leaky, learned": lambda maps: sym.LeakyReLU(maps, act_type="prelu", name="prelu")[0],
    "squeezed and excited": lambda maps: sym.broadcast_mul(maps, sym.sigmoid(averaged(maps))),
    "response normalization": lambda maps: sym.LRN(maps, nsize=5, alpha=0.1, knorm=2),
    "pooling, averages rounded up": lambda maps: pooled(maps, pool_type="avg", pad=(1, 1), pooling_convention="full"),
    "group normalization": lambda maps: sym.GroupNorm(maps, num_groups=2, name="gn"),
    "padding": lambda maps: sym.Pad(maps, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 1, 2), constant_value=0.5),
    "slices": lambda maps: sym.slice_axis(maps, axis=1, begin=1, end=3) * 2 - 1,
    "branches": lambda maps: sym.Concat(maps, sym.ElementWiseSum(maps, sym.tanh(maps), sym.clip(maps, 0, 1)), dim=1),
    "dropout": lambda maps: sym.Dropout(maps, p=0.5),
}


def files(folder: Path) -> tuple[Path, Path]:
    return folder / "net-symbol.json", folder / "net-0000.params"


def read(folder: Path, symbol: Any) -> Network:
    write_checkpoint(folder, symbol)
    return read_checkpoint(*files(folder), "data", SHAPE)


def compared(folder: Path, symbol: Any, batch: Any) -> tuple[Any, Any]:
    """Return what OpenVINO computes of the exported file, and what the reference engine computes."""
    export_onnx(read(folder, symbol), folder / "net.onnx")
    reference = MxnetEngine.load(*files(folder), "data", SHAPE)
    return OpenvinoEngine(read_model(folder / "net.onnx")[0]).predict(batch), reference.predict(batch)


@pytest.mark.parametrize("name", LOSSES)
def test_every_kind_of_output_layer_answers_as_in_mxnet(tmp_path: Path, name: str) -> None:
    found, expected = compared(tmp_path, LOSSES[name](), pictures(3))
    assert np.ptp(expected, axis=0).max() > 1e-4  # the pictures do make a difference
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", BODIES)
def test_every_kind_of_hidden_layer_computes_as_in_mxnet(tmp_path: Path, name: str) -> None:
    found, expected = compared(tmp_path, classifier(BODIES[name](convolution())), pictures(3))
    assert np.ptp(expected, axis=0).max() > 1e-4
    assert found == pytest.approx(expected, abs=1e-5)


def test_longs_of_python_2_are_read_as_numbers(tmp_path: Path) -> None:
    network = read(tmp_path, classifier(convolution()))
    for node in network.document["nodes"]:
        if node["op"] == "Convolution":
            node["attrs"].update(kernel="(3L, 3L)", __shape__="(0L, 3L)")
    export_onnx(network, tmp_path / "net.onnx")
    engine = OpenvinoEngine(read_model(tmp_path / "net.onnx")[0])
    expected = MxnetEngine.load(*files(tmp_path), "data", SHAPE).predict(pictures(2))
    assert engine.predict(pictures(2)) == pytest.approx(expected, abs=rounding(layers=3))


def test_the_onnx_file_is_valid_and_its_only_input_is_the_picture(tmp_path: Path) -> None:
    import onnx

    export_onnx(read(tmp_path, LOSSES["loss of classes"]()), tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    onnx.checker.check_model(model, full_check=True)  # it infers all shapes, and compares them with the stated ones
    assert [item.name for item in model.graph.input] == ["data"]
    assert [item.name for item in model.graph.output] == ["softmax"]
    assert [item.version for item in model.opset_import] == [13]


def test_an_array_with_a_duplicate_name_is_exported_under_another_name(tmp_path: Path) -> None:
    """MXNet allows two operations of one name, ONNX does not."""
    network = read(tmp_path, classifier(sym.relu(convolution())))
    for node in network.document["nodes"]:
        if node["op"] != "null":
            node["name"] = "same"
    export_onnx(network, tmp_path / "net.onnx")
    expected = MxnetEngine.load(*files(tmp_path), "data", SHAPE).predict(pictures(2))
    found = OpenvinoEngine(read_model(tmp_path / "net.onnx")[0]).predict(pictures(2))
    assert found == pytest.approx(expected, abs=rounding(layers=3))


def test_exporting_leaves_the_network_unchanged(tmp_path: Path) -> None:
    network = read(tmp_path, classifier(BODIES["normalization, scale fixed by default"](convolution())))
    gamma = network.arrays["bn_gamma"].copy()
    export_onnx(network, tmp_path / "net.onnx")
    assert np.array_equal(network.arrays["bn_gamma"], gamma) and not np.allclose(gamma, 1)


def test_parameters_in_16_bits_are_written_in_32(tmp_path: Path) -> None:
    symbol = classifier(convolution())
    write_checkpoint(tmp_path, symbol)
    half = {name: array.astype(np.float16) for name, array in random_params(symbol).items()}
    write_params(tmp_path / "net-0000.params", half)
    export_onnx(read_checkpoint(*files(tmp_path), "data", SHAPE), tmp_path / "net.onnx")
    expected = MxnetEngine.load(*files(tmp_path), "data", SHAPE).predict(pictures(2))
    found = OpenvinoEngine(read_model(tmp_path / "net.onnx")[0]).predict(pictures(2))
    assert found == pytest.approx(expected, abs=rounding(layers=3))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an operation": (
        lambda maps: sym.ROIPooling(maps, sym.var("rois"), pooled_size=(2, 2), spatial_scale=1.0, name="roi"),
        r"the operation ROIPooling cannot be converted \(node roi\); MXNet itself serves it, with the engine mxnet",
    ),
    "words": (
        lambda maps: sym.Embedding(maps, input_dim=9, output_dim=2, name="words"),
        r"Embedding cannot be converted \(node words\)",
    ),
    "an option": (
        lambda maps: sym.Dropout(maps, mode="always", name="noise"),
        r"Dropout with mode='always' cannot be converted \(node noise\); MXNet itself",
    ),
    "whole numbers": (
        lambda maps: sym.Cast(maps, dtype="int32", name="whole"),
        r"Cast with dtype='int32' cannot be converted \(node whole\)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_unsupported_operation_is_refused_by_name(tmp_path: Path, what: str) -> None:
    build, message = REFUSED[what]
    symbol = build(convolution())
    document = json.loads(symbol.tojson())
    learned = {name: np.zeros(4, np.float32) for name in symbol.list_arguments() if name != "data"}
    learned["conv_weight"] = np.zeros((4, 3, 3, 3), np.float32)
    with pytest.raises(ModelFormatError, match=message):
        export_onnx(Network(document, learned, "data", SHAPE[1:]), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_a_parameter_of_a_wrong_shape_is_named_with_its_node(tmp_path: Path) -> None:
    network = read(tmp_path, classifier(convolution()))
    network.arrays["fc_weight"] = network.arrays["fc_weight"][:, 1:]
    mismatch = (
        r"FullyConnected does not fit \(node fc\): its parameter fc_weight has the shape \(5, 143\), \(5, 144\) is"
    )
    with pytest.raises(ModelFormatError, match=mismatch):
        export_onnx(network, tmp_path / "net.onnx")


def test_a_missing_parameter_is_named_with_its_node(tmp_path: Path) -> None:
    network = read(tmp_path, classifier(convolution()))
    del network.arrays["conv_weight"]
    with pytest.raises(ModelFormatError, match=r"a parameter of the operation Convolution is missing \(node conv\)"):
        export_onnx(network, tmp_path / "net.onnx")
