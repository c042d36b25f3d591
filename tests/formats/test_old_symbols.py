"""Graphs as MXNet 0.8 to 1.9 wrote them, against what MXNet 1.9 makes of them when it upgrades them itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.engine import MxnetEngine, read_checkpoint
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine
from app.errors import ModelFormatError
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.mxnet_params import write_params
from tests.engines.networks import mx
from tests.rounding import rounding

SHAPE = (1, 3, 32, 32)
NODES = [
    ("null", "data", {}, []),
    ("null", "conv1_weight", {}, []),
    ("null", "conv1_bias", {}, []),
    ("Convolution", "conv1", {"kernel": "(3, 3)", "num_filter": "4", "no_bias": "False"}, [0, 1, 2]),
    ("null", "bn_gamma", {}, []),
    ("null", "bn_beta", {}, []),
    ("BatchNorm", "bn", {"eps": "0.001", "fix_gamma": "False"}, [3, 4, 5]),
    ("Activation", "relu1", {"act_type": "relu"}, [6]),
    ("Flatten", "flat", {}, [7]),
    ("null", "fc8_weight", {}, []),
    ("null", "fc8_bias", {}, []),
    ("FullyConnected", "fc8", {"num_hidden": "5", "no_bias": "False"}, [8, 9, 10]),
    ("null", "prob_label", {}, []),
]
HEADS: dict[str, tuple[str, dict[str, str], list[int]]] = {
    "SoftmaxOutput": ("SoftmaxOutput", {}, [11, 12]),
    "Softmax": ("Softmax", {"grad_scale": "1", "multi_output": "False"}, [11, 12]),  # what 0.8 called it
    "SoftmaxActivation": ("SoftmaxActivation", {}, [11]),
}


def old(version: str, head: str = "SoftmaxOutput", **changes: Any) -> dict[str, Any]:
    """Return a graph as that version of MXNet wrote it. Before 0.9, operations had no auxiliary states as inputs."""
    listed = [*NODES, (HEADS[head][0], "prob", *HEADS[head][1:])] if head else NODES[:12]
    nodes: list[dict[str, Any]] = []
    for op, name, options, inputs in listed:
        node: dict[str, Any] = {"op": op, "name": name, "inputs": [[item, 0] for item in inputs]}
        if version == "0.8":
            node |= {"param": options, "backward_source_id": -1}
            if name == "conv1":
                node["attr"] = {"ctx_group": "stage1", "weight_lr_mult": "2"}
        elif options:
            node["attr" if version == "0.9" else "attrs"] = options
        nodes.append(node | changes.get(name, {}))
    document: dict[str, Any] = {
        "nodes": nodes,
        "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [[len(nodes) - 1, 0]],
    }
    return document if version == "0.8" else document | {"attrs": {"mxnet_version": ["int", 10000]}}


def with_states(document: dict[str, Any]) -> dict[str, Any]:
    """Return the same as 0.9 and later write it: a normalisation takes its states as inputs."""
    loaded = mx.sym.load_json(json.dumps(document))
    upgraded: dict[str, Any] = json.loads(loaded.tojson())
    return upgraded


def arrays() -> dict[str, Any]:
    draw = np.random.default_rng(6)
    shapes = {"conv1_weight": (4, 3, 3, 3), "conv1_bias": (4,), "bn_gamma": (4,), "bn_beta": (4,)}
    shapes |= {"fc8_weight": (5, 4 * 30 * 30), "fc8_bias": (5,)}
    made = {f"arg:{name}": draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    states = ("bn_moving_mean", "bn_moving_var")
    return made | {f"aux:{name}": draw.uniform(0.5, 2, 4).astype(np.float32) for name in states}


def write(folder: Path, document: dict[str, Any], epoch: int = 0) -> tuple[Path, Path]:
    symbol, params = folder / "vgg-symbol.json", folder / f"vgg-{epoch:04d}.params"
    symbol.write_text(json.dumps(document))
    write_params(params, arrays())
    return symbol, params


def by_mxnet(document: dict[str, Any], batch: Any) -> Any:
    """Return what MXNet's own module answers for the graph that MXNet's own loader made of the old one."""
    symbol = mx.sym.load_json(json.dumps(document))
    learned = {name.partition(":")[2]: mx.nd.array(array) for name, array in arrays().items()}
    fed = {"data": mx.nd.array(batch), "prob_label": mx.nd.zeros(len(batch))}
    arguments = {name: {**learned, **fed}[name] for name in symbol.list_arguments()}
    states = {name: learned[name] for name in symbol.list_auxiliary_states()}
    return symbol.bind(mx.cpu(), arguments, aux_states=states, grad_req="null").forward()[0].asnumpy()


@pytest.mark.parametrize("head", ["SoftmaxOutput", "Softmax", "SoftmaxActivation", ""])
@pytest.mark.parametrize("version", ["0.8", "0.9", "1.0", "1.9"])
def test_graphs_of_all_versions_are_described_computed_and_converted(tmp_path: Path, version: str, head: str) -> None:
    document = old("0.8", head) if version in ("0.8", "1.9") else with_states(old("0.8", head))
    if version == "1.9":
        document = with_states(document)
    elif version != "0.8":
        document["attrs"] = {"mxnet_version": ["int", {"0.9": 905, "1.0": 10000}[version]]}
        for node in document["nodes"]:
            if version == "0.9" and "attrs" in node:
                node["attr"] = node.pop("attrs")
    symbol, params = write(tmp_path, document, epoch=42)
    signature = infer_signature(ModelFiles(symbol, params)).signature
    assert (signature.inputs[0].name, signature.inputs[0].shape) == ("data", (0, 3, 32, 32))
    assert signature.outputs[0].shape == (0, 5)
    assert signature.postprocess.activation == ("none" if head else "softmax")
    batch = np.random.default_rng(8).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    engine, expected = MxnetEngine.load(symbol, params, "data", SHAPE), by_mxnet(document, batch)
    assert engine.predict(batch) == pytest.approx(expected, abs=rounding(4, largest=10))
    export_onnx(read_checkpoint(symbol, params, "data", SHAPE), tmp_path / "vgg.onnx")
    converted = OpenvinoEngine(read_model(tmp_path / "vgg.onnx")[0])
    assert converted.predict(batch) == pytest.approx(expected, abs=rounding(4, largest=10))


def test_a_missing_parameter_is_named_with_the_operation_that_needs_it(tmp_path: Path) -> None:
    symbol, params = write(tmp_path, old("0.8"))
    write_params(params, {name: array for name, array in arrays().items() if name != "arg:bn_gamma"})
    message = (
        r"vgg-0000\.params does not hold bn_gamma, which BatchNorm bn of vgg-symbol\.json needs\. It holds arg:bn_beta"
    )
    with pytest.raises(ModelFormatError, match=message):
        infer_signature(ModelFiles(symbol, params))


def test_inputs_of_other_outputs_are_not_required(tmp_path: Path) -> None:
    document = old("0.8")
    document["nodes"] += [
        {"op": "null", "param": {}, "name": "truth", "inputs": [], "backward_source_id": -1},
        {"op": "_Minus", "param": {}, "name": "gap", "inputs": [[11, 0], [14, 0]], "backward_source_id": -1},
    ]
    document["heads"].append([15, 0])
    symbol, params = write(tmp_path, document)
    assert infer_signature(ModelFiles(symbol, params)).signature.inputs[0].name == "data"


def test_an_operation_that_does_not_exist_is_named_with_its_node(tmp_path: Path) -> None:
    symbol, params = write(tmp_path, old("0.8", flat={"op": "Wobble"}))
    with pytest.raises(ModelFormatError, match=r"vgg-symbol\.json.*flat is an operation Wobble"):
        infer_signature(ModelFiles(symbol, params))


def test_a_weight_of_the_wrong_shape_is_named_with_the_expected_shape(tmp_path: Path) -> None:
    symbol, params = write(tmp_path, old("0.8"))
    write_params(params, {**arrays(), "arg:conv1_weight": np.zeros((7, 3, 3, 3), np.float32)})
    message = (
        r"vgg-0000\.params does not fit vgg-symbol\.json.*conv1_weight has the shape \(7, 3, 3, 3\), \(4, 3, 3, 3\)"
    )
    with pytest.raises(ModelFormatError, match=message):
        MxnetEngine.load(symbol, params, "data", SHAPE)


@pytest.mark.parametrize("side", [33, 50, 90, 180, 300])
def test_an_unusual_size_follows_from_the_weights(tmp_path: Path, side: int) -> None:
    maps = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=2, name="conv")
    net = mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=3, name="fc")
    net.save(str(tmp_path / "net-symbol.json"))
    learned = {
        "arg:conv_weight": np.zeros((2, 3, 3, 3), np.float32),
        "arg:conv_bias": np.zeros(2, np.float32),
        "arg:fc_weight": np.zeros((3, 2 * (side - 2) ** 2), np.float32),
        "arg:fc_bias": np.zeros(3, np.float32),
    }
    write_params(tmp_path / "net-0000.params", learned)
    found = infer_signature(ModelFiles(tmp_path / "net-symbol.json", tmp_path / "net-0000.params")).signature
    assert found.inputs[0].shape == (0, 3, side, side)


@pytest.mark.parametrize(("kernel", "side"), [(7, 224), (8, 256), (5, 150)])
def test_a_pooling_with_a_stated_window_determines_the_size(tmp_path: Path, kernel: int, side: int) -> None:
    maps = mx.sym.var("data")
    for number in range(5):
        maps = mx.sym.Convolution(
            maps, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=2, no_bias=True, name=f"c{number}"
        )
    pooled = mx.sym.Pooling(maps, global_pool=True, kernel=(kernel, kernel), pool_type="avg")
    net = mx.sym.FullyConnected(mx.sym.Flatten(pooled), num_hidden=3, no_bias=True, name="fc")
    net.save(str(tmp_path / "net-symbol.json"))
    arguments, _outputs, _states = net.infer_shape(data=(1, 3, side, side))
    shapes = dict(zip(net.list_arguments(), arguments, strict=True))
    learned = {f"arg:{name}": np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "data"}
    write_params(tmp_path / "net-0000.params", learned)
    found = infer_signature(ModelFiles(tmp_path / "net-symbol.json", tmp_path / "net-0000.params")).signature
    assert found.inputs[0].shape == (0, 3, side, side)
