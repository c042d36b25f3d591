from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import prepare
from app.errors import ModelFormatError
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.mxnet_describe import CheckpointFacts, describe_checkpoint
from app.formats.mxnet_graph import read_graph
from app.formats.mxnet_params import write_params
from app.formats.mxnet_shapes import infer_shapes

SHARED = Path(__file__).parents[3] / "shared" / "data"


def mxnet() -> Any:
    prepare()
    import mxnet

    return mxnet


def shapes_of(symbol: Any, **inputs: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that MXNet gives the parameters for these inputs."""
    arguments, _outputs, states = symbol.infer_shape(**inputs)
    named = [*zip(symbol.list_arguments(), arguments, strict=True)]
    named += zip(symbol.list_auxiliary_states(), states, strict=True)
    return {name: shape for name, shape in named if name not in inputs and not name.endswith("_label")}


def facts(tmp_path: Path, symbol: Any, size: int, channels: int = 3, data: str = "data") -> CheckpointFacts:
    """Return the description of a network whose weights are those for pictures of that size."""
    path = tmp_path / "net-symbol.json"
    symbol.save(str(path))
    params = {f"arg:{name}": shape for name, shape in shapes_of(symbol, **{data: (1, channels, size, size)}).items()}
    return describe_checkpoint(read_graph(path), params, path)


def conv(data: Any, filters: int, kernel: int, stride: int = 1, pad: int = 0, **more: Any) -> Any:
    square = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad)}
    return mxnet().sym.Convolution(data, num_filter=filters, **square, **more)


def pool(data: Any, kernel: int, stride: int, convention: str = "valid", pad: int = 0) -> Any:
    square = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad)}
    return mxnet().sym.Pooling(data, pool_type="max", pooling_convention=convention, **square)


def flat_head(net: Any, classes: int) -> Any:
    mx = mxnet()
    return mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=classes, name="fc")


def pooled_head(net: Any, classes: int) -> Any:
    return flat_head(mxnet().sym.Pooling(net, global_pool=True, kernel=(1, 1), pool_type="avg"), classes)


@pytest.mark.parametrize("size", [28, 32, 64, 150, 224, 299])
def test_the_size_follows_from_the_weights_of_a_flat_head(tmp_path: Path, size: int) -> None:
    net = pool(conv(mxnet().sym.var("data"), 4, 3), 2, 2)
    assert facts(tmp_path, flat_head(net, 10), size).input_shape == (0, 3, size, size)


def test_the_channels_come_from_the_first_weight_and_its_groups(tmp_path: Path) -> None:
    data = mxnet().sym.var("data")
    assert facts(tmp_path, flat_head(conv(data, 4, 3), 2), 28, channels=1).input_shape == (0, 1, 28, 28)
    assert facts(tmp_path, flat_head(conv(data, 4, 3, num_group=2), 2), 28, channels=4).input_shape == (0, 4, 28, 28)


def imagenet_stem(kernel: int, stride: int, pad: int) -> Any:
    net = conv(mxnet().sym.var("data"), 8, kernel, stride, pad)
    for _ in range(4):
        net = pool(net, 3, 2, "full")
    return net


def test_a_pooled_network_that_would_drop_an_edge_of_224_takes_227(tmp_path: Path) -> None:
    assert facts(tmp_path, pooled_head(imagenet_stem(7, 2, 0), 9), 227).input_shape == (0, 3, 227, 227)


def test_a_pooled_network_that_pads_the_edge_takes_224(tmp_path: Path) -> None:
    assert facts(tmp_path, pooled_head(imagenet_stem(7, 2, 3), 9), 224).input_shape == (0, 3, 224, 224)


def test_a_pooled_network_that_shrinks_little_takes_a_small_picture(tmp_path: Path) -> None:
    net = conv(conv(mxnet().sym.var("data"), 8, 3, 2, 1), 8, 3, 2, 1)
    assert facts(tmp_path, pooled_head(net, 9), 32).input_shape == (0, 3, 32, 32)


def test_an_average_over_both_axes_counts_as_pooling(tmp_path: Path) -> None:
    mx = mxnet()
    net = mx.sym.mean(imagenet_stem(3, 2, 1), axis=(2, 3))
    net = mx.sym.FullyConnected(net, num_hidden=7)
    assert facts(tmp_path, net, 224).input_shape == (0, 3, 224, 224)


def test_a_squeeze_inside_the_network_is_not_mistaken_for_its_last_pooling(tmp_path: Path) -> None:
    mx = mxnet()
    early = conv(mx.sym.var("data"), 8, 3, 2, 1)
    gate = mx.sym.Activation(conv(mx.sym.Pooling(early, global_pool=True, kernel=(1, 1)), 8, 1), act_type="sigmoid")
    net = mx.sym.broadcast_mul(early, gate)
    for _ in range(4):
        net = conv(net, 8, 3, 2, 1)
    assert facts(tmp_path, pooled_head(net, 5), 224).input_shape == (0, 3, 224, 224)


def test_a_stated_input_shape_is_used(tmp_path: Path) -> None:
    net = pooled_head(conv(mxnet().sym.var("data", shape=(1, 3, 71, 91)), 4, 3), 2)
    assert facts(tmp_path, net, 71).input_shape == (0, 3, 71, 91)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (lambda mx, net: net, "logits"),
        (lambda mx, net: mx.sym.SoftmaxOutput(net, name="softmax"), "distribution"),
        (lambda mx, net: mx.sym.softmax(net), "distribution"),
        (lambda mx, net: mx.sym.log_softmax(net), "logits"),
        (lambda mx, net: mx.sym.SoftmaxActivation(net), "distribution"),
        (lambda mx, net: mx.sym.Activation(net, act_type="sigmoid"), "distribution"),
        (lambda mx, net: mx.sym.Activation(net, act_type="relu"), "logits"),
        (lambda mx, net: mx.sym.sigmoid(net), "distribution"),
        (lambda mx, net: mx.sym.LogisticRegressionOutput(net, name="out"), "distribution"),
        (lambda mx, net: mx.sym.LinearRegressionOutput(net, name="out"), "features"),
        (lambda mx, net: mx.sym.L2Normalization(net), "features"),
        (lambda mx, net: mx.sym.BatchNorm(net, name="fc1"), "features"),
        (lambda mx, net: mx.sym.BlockGrad(mx.sym.Flatten(mx.sym.softmax(net))), "distribution"),
    ],
)
def test_the_head_distinguishes_probabilities_from_logits(
    tmp_path: Path, head: Callable[[Any, Any], Any], kind: str
) -> None:
    mx = mxnet()
    found = facts(tmp_path, head(mx, flat_head(conv(mx.sym.var("data"), 4, 3), 10)), 32)
    assert found.kind == kind
    assert found.classes == 10


def test_the_input_may_have_any_name_and_a_label_is_not_mistaken_for_it(tmp_path: Path) -> None:
    mx = mxnet()
    net = flat_head(conv(mx.sym.var("/conv2d_1_input1"), 4, 3), 10)
    labelled = mx.sym.SoftmaxOutput(net, mx.sym.var("truth"), name="softmax")
    path = tmp_path / "net-symbol.json"
    labelled.save(str(path))
    inputs = {"/conv2d_1_input1": (1, 3, 32, 32), "truth": (1,)}
    assert describe_checkpoint(read_graph(path), shapes_of(labelled, **inputs), path).input_name == "/conv2d_1_input1"


def test_shapes_equal_those_inferred_by_mxnet(tmp_path: Path) -> None:
    mx = mxnet()
    data = mx.sym.var("data")
    left = mx.sym.Activation(mx.sym.BatchNorm(conv(data, 6, 3, 2, 1)), act_type="relu")
    right = pool(conv(data, 4, 5, 2, 2, dilate=(1, 1)), 3, 1, pad=1)
    net = mx.sym.Concat(left, right) * 2 + 1
    net = mx.sym.pad(net, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, 0, 1, 2, 3))
    net = pool(pool(conv(net, 8, 3, 1, 2, dilate=(2, 2), num_group=2), 3, 2, "full"), 2, 3)
    net = mx.sym.LeakyReLU(net + mx.sym.clip(net, 0, 6))
    net = mx.sym.FullyConnected(mx.sym.reshape(net, shape=(0, -1)), num_hidden=3)
    path = tmp_path / "net-symbol.json"
    net.save(str(path))
    graph = read_graph(path)
    for size in (33, 34, 35, 64):
        weights = shapes_of(net, data=(1, 3, size, size))
        internals = net.get_internals()
        expected = dict(zip(internals.list_outputs(), internals.infer_shape(data=(1, 3, size, size))[1], strict=True))
        found = infer_shapes(graph, "data", (3, size, size), weights)
        for node, shape in zip(graph.nodes, found, strict=True):
            if node.op != "null":
                assert shape == expected[f"{node.name}_output"][1:], node.name


def tiny(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    mx = mxnet()
    path = tmp_path / "net-symbol.json"
    net = flat_head(conv(mx.sym.var("data"), 4, 3, name="conv"), 10)
    net.save(str(path))
    return path, shapes_of(net, data=(1, 3, 32, 32))


@pytest.mark.parametrize("key", ["attr", "param"])
def test_older_spellings_of_the_attributes_are_read(tmp_path: Path, key: str) -> None:
    path, weights = tiny(tmp_path)
    document = json.loads(path.read_text())
    for node in document["nodes"]:
        node[key] = node.pop("attrs", {})
        if key == "param":
            node["attr"] = {"ctx_group": "stage1"}
    path.write_text(json.dumps(document))
    assert describe_checkpoint(read_graph(path), weights, path).input_shape == (0, 3, 32, 32)


def test_longs_of_python_2_are_read(tmp_path: Path) -> None:
    path, weights = tiny(tmp_path)
    document = json.loads(path.read_text())
    document["nodes"][0]["attrs"] = {"__shape__": "(0L, 3L, 32L, 32L)"}
    for node in document["nodes"]:
        if "kernel" in node.get("attrs", {}):
            node["attrs"]["kernel"] = "(3L, 3L)"
    path.write_text(json.dumps(document))
    assert describe_checkpoint(read_graph(path), weights, path).input_shape == (0, 3, 32, 32)


def describe(tmp_path: Path, path: Path, weights: dict[str, Any]) -> Any:
    params = tmp_path / "net-0000.params"
    write_params(params, {f"arg:{name}": np.zeros(shape, np.float32) for name, shape in weights.items()})
    return infer_signature(ModelFiles(path, params)).signature


def test_a_checkpoint_alone_is_described_as_mms_would_serve_it(tmp_path: Path) -> None:
    signature = describe(tmp_path, *tiny(tmp_path))
    assert (signature.inputs[0].name, signature.inputs[0].shape) == ("data", (0, 3, 32, 32))
    assert (signature.outputs[0].name, signature.outputs[0].shape) == ("fc", (0, 10))
    assert signature.preprocess.resize == "stretch" and signature.preprocess.mean == (0.0,)
    assert signature.postprocess.activation == "softmax"


def test_missing_parameters_are_named(tmp_path: Path) -> None:
    path, weights = tiny(tmp_path)
    del weights["conv_weight"]
    with pytest.raises(ModelFormatError, match="conv_weight"):
        describe(tmp_path, path, weights)


def test_a_graph_without_an_input_is_refused(tmp_path: Path) -> None:
    path, weights = tiny(tmp_path)
    with pytest.raises(ModelFormatError, match="no input"):
        describe(tmp_path, path, {**weights, "data": (1,)})


def test_weights_that_fit_no_square_size_require_a_signature(tmp_path: Path) -> None:
    path, weights = tiny(tmp_path)
    with pytest.raises(ModelFormatError, match=r"no square size fits; at 224 x 224 fc takes .*signature\.json"):
        describe(tmp_path, path, {**weights, "fc_weight": (10, 4 * 31 * 30)})


def test_an_unknown_operation_requires_a_signature(tmp_path: Path) -> None:
    mx = mxnet()
    path = tmp_path / "net-symbol.json"
    net = flat_head(mx.sym.SwapAxis(conv(mx.sym.var("data"), 4, 3), dim1=1, dim2=3), 10)
    net.save(str(path))
    with pytest.raises(ModelFormatError, match=r"swapaxis.*signature\.json"):
        describe(tmp_path, path, shapes_of(net, data=(1, 3, 32, 32)))


def test_a_network_of_rows_requires_a_signature(tmp_path: Path) -> None:
    mx = mxnet()
    path = tmp_path / "net-symbol.json"
    net = flat_head(mx.sym.var("data"), 10)
    net.save(str(path))
    with pytest.raises(ModelFormatError, match=r"signature\.json"):
        describe(tmp_path, path, shapes_of(net, data=(1, 784)))


def test_a_convolution_along_one_axis_requires_a_signature(tmp_path: Path) -> None:
    mx = mxnet()
    path = tmp_path / "net-symbol.json"
    net = flat_head(mx.sym.Convolution(mx.sym.var("data"), kernel=(3,), num_filter=4), 10)
    net.save(str(path))
    with pytest.raises(ModelFormatError, match=r"signature\.json"):
        describe(tmp_path, path, shapes_of(net, data=(1, 3, 32)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"nodes": [], "heads": []}',
        '{"nodes": [{"op": "null"}], "heads": [[0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[1, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[-1, 0]]}',
        '{"nodes": [{"op": "Flatten", "name": "f", "inputs": [[0, 0]]}], "heads": [[0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": [], "attrs": 3}], "heads": [[0, 0]]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_a_graph_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad-symbol.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"bad-symbol\.json"):
        read_graph(tmp_path / "bad-symbol.json")


@pytest.mark.parametrize(
    ("name", "shape", "classes", "activation"),
    [("squeezenet_v1.0", (0, 3, 227, 227), 1000, "none"), ("cifar_resnet20_v1", (0, 3, 32, 32), 10, "softmax")],
)
def test_published_checkpoints_are_described(name: str, shape: tuple[int, ...], classes: int, activation: str) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the published checkpoint {name} is not beside this checkout (../shared/data)")
    signature = infer_signature(ModelFiles(folder / f"{name}-symbol.json", folder / f"{name}-0000.params")).signature
    assert signature.inputs[0].name == "data"
    assert signature.inputs[0].shape == shape
    assert signature.outputs[0].shape == (0, classes)
    assert signature.postprocess.activation == activation
