"""What MXNet's exporter cannot write, or writes wrongly, is computed by OpenVINO as MXNet computes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.engine import MxnetEngine
from app.engines.mxnet.onnx import export_onnx
from app.engines.openvino import OpenvinoEngine
from app.utils.openvino_runtime import import_openvino
from tests.engines.networks import SHAPE, classifier, convolution, dense, mx, pictures, write_checkpoint
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
    "padding": lambda maps: sym.Pad(maps, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 1, 2), constant_value=0.5),
    "slices": lambda maps: sym.slice_axis(maps, axis=1, begin=1, end=3) * 2 - 1,
    "branches": lambda maps: sym.Concat(maps, sym.ElementWiseSum(maps, sym.tanh(maps), sym.clip(maps, 0, 1)), dim=1),
    "dropout": lambda maps: sym.Dropout(maps, p=0.5),
}


def compared(folder: Path, reference: MxnetEngine, batch: Any) -> tuple[Any, Any]:
    openvino = import_openvino()
    export_onnx(reference.network(), folder / "net.onnx")
    model = openvino.convert_model(str(folder / "net.onnx"))
    return OpenvinoEngine(model).predict(batch), reference.predict(batch)


def opened(folder: Path, symbol: Any) -> MxnetEngine:
    write_checkpoint(folder, symbol)
    return MxnetEngine.load(folder / "net-symbol.json", folder / "net-0000.params", "data", SHAPE)


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_network_ends_with_answers_as_in_mxnet(tmp_path: Path, name: str) -> None:
    found, expected = compared(tmp_path, opened(tmp_path, LOSSES[name]()), pictures(3))
    assert np.ptp(expected, axis=0).max() > 1e-4  # the pictures do make a difference
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", BODIES)
def test_what_a_network_consists_of_computes_as_in_mxnet(tmp_path: Path, name: str) -> None:
    found, expected = compared(tmp_path, opened(tmp_path, classifier(BODIES[name](convolution()))), pictures(3))
    assert np.ptp(expected, axis=0).max() > 1e-4
    assert found == pytest.approx(expected, abs=1e-5)


def test_longs_of_python_2_are_read_as_numbers(tmp_path: Path) -> None:
    reference = opened(tmp_path, classifier(convolution()))
    network = reference.network()
    for node in network.document["nodes"]:
        if node["op"] == "Convolution":
            node["attrs"].update(kernel="(3L, 3L)", __shape__="(0L, 3L)")
    export_onnx(network, tmp_path / "net.onnx")
    engine = OpenvinoEngine(import_openvino().convert_model(str(tmp_path / "net.onnx")))
    assert engine.predict(pictures(2)) == pytest.approx(reference.predict(pictures(2)), abs=rounding(layers=3))


def test_the_onnx_file_asks_for_the_picture_alone(tmp_path: Path) -> None:
    import onnx

    export_onnx(opened(tmp_path, LOSSES["loss of classes"]()).network(), tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    assert [item.name for item in model.graph.input] == ["data"]
    assert [item.version for item in model.opset_import] == [13]  # what MXNet's translations are written for


def test_the_network_that_is_rewritten_stays_as_it_was(tmp_path: Path) -> None:
    reference = opened(tmp_path, classifier(BODIES["normalization, scale fixed by default"](convolution())))
    network = reference.network()
    gamma = network.arrays["bn_gamma"].copy()
    export_onnx(network, tmp_path / "net.onnx")
    assert np.array_equal(network.arrays["bn_gamma"], gamma) and not np.allclose(gamma, 1)


def test_an_operation_that_onnx_lacks_is_refused_by_its_name(tmp_path: Path) -> None:
    symbol = classifier(sym.GroupNorm(convolution(), num_groups=2, name="gn"))
    with pytest.raises(Exception, match="GroupNorm"):
        export_onnx(opened(tmp_path, symbol).network(), tmp_path / "net.onnx")
