from __future__ import annotations

import gc
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import prepare
from app.engines.mxnet.engine import MAX_EXECUTORS, MxnetEngine
from app.engines.mxnet.passes import is_safe
from app.errors import ModelFormatError
from app.formats.mxnet_graph import Graph, read_graph
from app.formats.mxnet_params import write_params
from tests.rounding import rounding

SHAPE = (0, 3, 8, 8)
SHARED = Path(__file__).parents[4] / "shared" / "data"


def mxnet() -> Any:
    prepare()
    import mxnet

    return mxnet


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


WEIGHTS = {
    "arg:conv_weight": random(4, 3, 3, 3, seed=1),
    "arg:conv_bias": random(4, seed=2),
    "arg:bn_gamma": random(4, seed=3) + 2,
    "arg:bn_beta": random(4, seed=4),
    "aux:bn_moving_mean": random(4, seed=5),
    "aux:bn_moving_var": random(4, seed=6) + 2,
    "arg:fc_weight": random(5, 36, seed=7),
    "arg:fc_bias": random(5, seed=8),
}


def network(softmax: bool = False) -> Any:
    mx = mxnet()
    net = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    net = mx.sym.BatchNorm(net, eps=1e-3, fix_gamma=False, name="bn")
    net = mx.sym.Activation(net, act_type="relu")
    net = mx.sym.Pooling(net, kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=5, name="fc")
    return mx.sym.SoftmaxOutput(net, name="softmax") if softmax else net


def forward(batch: Any) -> Any:
    """Return the same network in NumPy, written from the operations' definitions."""
    w = {name.partition(":")[2]: array.astype(np.float64) for name, array in WEIGHTS.items()}
    windows = np.lib.stride_tricks.sliding_window_view(batch.astype(np.float64), (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,fcij->nfhw", windows, w["conv_weight"]) + w["conv_bias"][:, None, None]
    scale = w["bn_gamma"] / np.sqrt(w["bn_moving_var"] + 1e-3)
    maps = (maps - w["bn_moving_mean"][:, None, None]) * scale[:, None, None] + w["bn_beta"][:, None, None]
    maps = np.maximum(maps, 0).reshape(len(batch), 4, 3, 2, 3, 2).max(axis=(3, 5))
    return maps.reshape(len(batch), -1) @ w["fc_weight"].T + w["fc_bias"]


def files(folder: Path, symbol: Any, weights: dict[str, Any] = WEIGHTS) -> tuple[Path, Path]:
    symbol.save(str(folder / "net-symbol.json"))
    write_params(folder / "net-0000.params", weights)
    return folder / "net-symbol.json", folder / "net-0000.params"


@pytest.fixture
def engine(tmp_path: Path) -> MxnetEngine:
    return MxnetEngine.load(*files(tmp_path, network()), "data", SHAPE)


def test_logits_match_an_independent_forward_pass(engine: MxnetEngine) -> None:
    batch = random(3, 3, 8, 8)
    found = engine.predict(batch)
    assert found.dtype == np.float32 and found.shape == (3, 5)
    np.testing.assert_allclose(found, forward(batch), atol=1e-5)


def test_the_engine_supplies_the_label_input(tmp_path: Path) -> None:
    engine = MxnetEngine.load(*files(tmp_path, network(softmax=True)), "data", SHAPE)
    for size in (1, 3):
        batch = random(size, 3, 8, 8)
        logits = forward(batch)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(engine.predict(batch), expected, atol=rounding(layers=4))


def test_batches_of_any_size_give_the_same_rows_as_single_pictures(engine: MxnetEngine) -> None:
    batch = random(7, 3, 8, 8)
    alone = np.concatenate([engine.predict(batch[i : i + 1]) for i in range(7)])
    for size in (7, 1, 2, 3, 4, 5, 6, 7):
        np.testing.assert_allclose(engine.predict(batch[:size]), alone[:size], atol=1e-5)


def test_only_a_few_batch_sizes_stay_bound(engine: MxnetEngine) -> None:
    before = count_executors()
    for size in range(1, MAX_EXECUTORS + 4):
        engine.predict(random(size, 3, 8, 8))
    assert count_executors() - before == MAX_EXECUTORS


def count_executors() -> int:
    """Return the number of MXNet's executors, each of which holds a network's memory for one batch size."""
    gc.collect()
    return sum(isinstance(item, mxnet().executor.Executor) for item in gc.get_objects())


def test_eight_concurrent_threads_get_the_same_results_as_serial_calls(engine: MxnetEngine) -> None:
    batches = [random(1 + index % 5, 3, 8, 8, seed=index) for index in range(80)]
    serial = [engine.predict(batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        parallel = list(threads.map(engine.predict, batches))
    for item, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(item, other)


def test_two_engines_compute_concurrently_without_interference(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other_weights = {name: array + 0.5 for name, array in WEIGHTS.items()}
    first = MxnetEngine.load(*files(tmp_path, network()), "data", SHAPE)
    second = MxnetEngine.load(*files(tmp_path / "other", network(), other_weights), "data", SHAPE)
    batches = [random(2, 3, 8, 8, seed=index) for index in range(30)]
    serial = [engine.predict(batch) for batch in batches for engine in (first, second)]
    with ThreadPoolExecutor(8) as threads:
        started = [threads.submit(engine.predict, batch) for batch in batches for engine in (first, second)]
        for item, other in zip(serial, started, strict=True):
            np.testing.assert_array_equal(item, other.result())


def test_a_batch_that_is_not_contiguous_or_not_float32_is_accepted(engine: MxnetEngine) -> None:
    photograph = random(1, 8, 8, 3).astype(np.float64)
    batch = photograph.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(engine.predict(batch), forward(batch), atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 1, 8, 8), (3, 8, 8), (0, 3, 8, 8)])
def test_a_batch_of_another_shape_is_refused(engine: MxnetEngine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        engine.predict(np.zeros(shape, np.float32))


def test_maps_of_one_pixel_are_returned_as_rows(tmp_path: Path) -> None:
    mx = mxnet()
    net = mx.sym.Pooling(mx.sym.var("data"), global_pool=True, kernel=(1, 1), pool_type="avg")
    engine = MxnetEngine.load(*files(tmp_path, net, {}), "data", SHAPE)
    batch = random(2, 3, 8, 8)
    np.testing.assert_allclose(engine.predict(batch), batch.mean(axis=(2, 3)), atol=rounding(layers=1))


def test_a_closed_engine_does_not_predict(engine: MxnetEngine) -> None:
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.predict(random(1, 3, 8, 8))


def assert_refused(symbol: Path, params: Path, reason: str, name: str = "data", shape: tuple[int, ...] = SHAPE) -> None:
    with pytest.raises(ModelFormatError, match=reason) as caught:
        MxnetEngine.load(symbol, params, name, shape)
    text = str(caught.value)
    assert "Stack trace" not in text and ".cc:" not in text and "\n" not in text


def test_an_input_of_another_name_is_refused(tmp_path: Path) -> None:
    assert_refused(*files(tmp_path, network()), "no input 'picture'; it takes data", name="picture")


@pytest.mark.parametrize("name", ["arg:fc_weight", "aux:bn_moving_var"])
def test_missing_parameters_are_named(tmp_path: Path, name: str) -> None:
    left = {key: array for key, array in WEIGHTS.items() if key != name}
    assert_refused(*files(tmp_path, network(), left), f"lacks.*{name[4:]}")


def test_a_parameter_of_another_shape_is_named(tmp_path: Path) -> None:
    wrong = {**WEIGHTS, "arg:fc_weight": random(5, 35)}
    assert_refused(*files(tmp_path, network(), wrong), r"fc_weight has the shape \(5, 35\), \(5, 36\) is needed")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((0, 3, 9, 12), "fc_weight"),
        ((0, 1, 8, 8), "conv_weight"),
        ((0, 3, 2, 2), "kernel size exceed"),
        ((0, 3, 8), "4D"),
        ((0, 3, 0, 8), "every size"),
        ((0,), "every size"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(tmp_path: Path, shape: tuple[int, ...], reason: str) -> None:
    assert_refused(*files(tmp_path, network()), reason, shape=shape)


def change(document: dict[str, Any], **values: Any) -> None:
    next(node for node in document["nodes"] if node["op"] == "Convolution").update(values)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: change(d, op="Nonsense"), "Nonsense is not registered"),
        (lambda d: change(d, attrs={"kernel": "abc", "num_filter": "4"}), "kernel"),
        (lambda d: change(d, attrs={"kernel": "(3, 3)", "num_filter": "4", "odd": "1"}), "odd"),
        (lambda d: change(d, inputs=[]), "net-symbol"),
        (lambda d: d.pop("heads"), "heads"),
    ],
)
def test_a_broken_graph_is_refused(tmp_path: Path, damage: Callable[[Any], Any], reason: str) -> None:
    symbol, params = files(tmp_path, network())
    document = json.loads(symbol.read_text())
    damage(document)
    symbol.write_text(json.dumps(document))
    assert_refused(symbol, params, reason)


def test_broken_parameters_are_refused(tmp_path: Path) -> None:
    symbol, params = files(tmp_path, network())
    params.write_bytes(params.read_bytes()[:100])
    assert_refused(symbol, params, r"net-0000\.params")


@pytest.mark.parametrize(("name", "size", "classes"), [("squeezenet_v1.0", 227, 1000), ("cifar_resnet20_v1", 32, 10)])
def test_published_checkpoints_load_and_answer(name: str, size: int, classes: int) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the published checkpoint {name} is not beside this checkout (../shared/data)")
    shape = (0, 3, size, size)
    engine = MxnetEngine.load(folder / f"{name}-symbol.json", folder / f"{name}-0000.params", "data", shape)
    found = engine.predict(random(2, 3, size, size))
    assert found.shape == (2, classes) and np.isfinite(found).all()


def test_the_first_of_several_outputs_is_returned(tmp_path: Path) -> None:
    mx = mxnet()
    net = network()
    inner = net.get_internals()["bn_output"]
    batch = random(2, 3, 8, 8)
    engine = MxnetEngine.load(*files(tmp_path, mx.sym.Group([net, inner])), "data", SHAPE)
    np.testing.assert_allclose(engine.predict(batch), forward(batch), atol=1e-5)


def by_module(folder: Path, batch: Any, output: int = 0) -> Any:
    """Return what MXNet's own Module answers, with the files in a folder."""
    mx = mxnet()
    symbol, arguments, states = mx.model.load_checkpoint(str(folder / "net"), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind(for_training=False, data_shapes=[("data", batch.shape)])
    module.set_params(arguments, states, allow_missing=True)
    module.forward(mx.io.DataBatch([mx.nd.array(batch)]), is_train=False)
    return module.get_outputs()[output].asnumpy().reshape(len(batch), -1)


def learned(symbol: Any, kind: str = "float32", shape: tuple[int, ...] = SHAPE) -> dict[str, Any]:
    draw = np.random.RandomState(3)
    shapes, _outputs, states = symbol.infer_shape(data=(1, *shape[1:]))
    arguments = dict(zip(symbol.list_arguments(), shapes, strict=True))
    named = {f"arg:{name}": draw.normal(0, 0.3, size) for name, size in arguments.items() if name != "data"}
    named |= {
        f"aux:{name}": draw.uniform(0.5, 1.5, size)
        for name, size in zip(symbol.list_auxiliary_states(), states, strict=True)
    }
    return {name: array.astype(kind) for name, array in named.items() if not name.endswith("label")}


MAPS: dict[str, Callable[[Any], Any]] = {
    "a convolution": lambda c: c,
    "with an activation": lambda c: relu(c),
    "normalized": lambda c: relu(norm(c, "b1")),
    "clipped": lambda c: mxnet().sym.clip(c, 0, 6),
    "parametric": lambda c: mxnet().sym.LeakyReLU(c, act_type="prelu", name="p"),
    "dropped out": lambda c: mxnet().sym.Dropout(c),
    "added": lambda c: c + c * 2,
    "copied": lambda c: mxnet().sym.identity(mxnet().sym.tanh(c)),
    "depthwise": lambda c: mxnet().sym.Convolution(c, num_filter=4, num_group=4, kernel=(1, 1), name="c2"),
    "pooled": lambda c: mxnet().sym.Pooling(c, kernel=(1, 1), global_pool=True, pool_type="avg"),
}


@pytest.mark.parametrize("flat", ["", "Flatten", "Reshape", "flatten=False"])
@pytest.mark.parametrize("name", MAPS)
def test_maps_of_one_pixel_pass_a_fully_connected_layer_repeatedly(tmp_path: Path, name: str, flat: str) -> None:
    """LeNet-5 and MobileFaceNet end so. Every batch is computed more than once, between others of other sizes."""
    mx = mxnet()
    net = MAPS[name](mx.sym.Convolution(mx.sym.var("data"), kernel=(8, 8), num_filter=4, name="c1"))
    if flat == "Flatten":
        net = mx.sym.Flatten(net)
    elif flat == "Reshape":
        net = mx.sym.Reshape(net, shape=(0, -1))
    net = mx.sym.FullyConnected(net, num_hidden=6, name="f1", flatten=flat != "flatten=False")
    net = mx.sym.FullyConnected(relu(net), num_hidden=5, name="f2")
    engine = MxnetEngine.load(*files(tmp_path, net, learned(net)), "data", SHAPE)
    for size in (1, 1, 2, 1, 2):
        batch = random(size, 3, 8, 8, seed=size)
        np.testing.assert_allclose(engine.predict(batch), by_module(tmp_path, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "difference"), [("float16", 1e-5), ("float64", 1e-5)])
def test_parameters_of_other_float_types_are_cast_as_by_mxnet(tmp_path: Path, kind: str, difference: float) -> None:
    net = network(softmax=True)
    engine = MxnetEngine.load(*files(tmp_path, net, learned(net, kind)), "data", SHAPE)
    batch = random(3, 3, 8, 8)
    np.testing.assert_allclose(engine.predict(batch), by_module(tmp_path, batch), atol=difference)
    assert {array.dtype for array in engine.network().arrays.values()} == {np.dtype(np.float32)}


def test_a_network_of_16_bits_is_computed_in_32(tmp_path: Path) -> None:
    """So it is written for a GPU: pixels cast at its start, the answer at its end. MXNet's CPU code cannot compute it.
    The bound is what 16 bits round the parameters at, a few times over."""
    mx = mxnet()
    plain = network(softmax=True)
    half = network()(data=mx.sym.Cast(mx.sym.var("data"), dtype="float16"))
    half = mx.sym.SoftmaxOutput(mx.sym.Cast(half, dtype="float32"), name="softmax")
    batch = random(3, 3, 8, 8)
    files(tmp_path, plain, WEIGHTS)
    expected = by_module(tmp_path, batch)
    symbol, params = files(tmp_path, half, {name: array.astype("float16") for name, array in WEIGHTS.items()})
    np.testing.assert_allclose(MxnetEngine.load(symbol, params, "data", SHAPE).predict(batch), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", 0),
        ("nothing of the kind", 0),
        ("box", 0),
        ("box_output", 0),
        ("softmax", 1),
        ("softmax_output", 1),
        ("parts_output0", 2),
        ("parts_output1", 3),
    ],
)
def test_the_named_output_is_returned(tmp_path: Path, name: str, number: int) -> None:
    mx = mxnet()
    row = mx.sym.Flatten(relu(conv(mx.sym.var("data"), "c1", 3)))
    box = mx.sym.LinearRegressionOutput(mx.sym.FullyConnected(row, num_hidden=4), name="box")
    classes = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(row, num_hidden=3), name="softmax")
    parts = mx.sym.SliceChannel(row, num_outputs=2, name="parts")
    net = mx.sym.Group([box, classes, parts[0], parts[1]])
    engine = MxnetEngine.load(*files(tmp_path, net, learned(net)), "data", SHAPE, name)
    batch = random(2, 3, 8, 8)
    np.testing.assert_allclose(engine.predict(batch), by_module(tmp_path, batch, number), rtol=1e-5, atol=1e-5)


def test_missing_parameters_of_another_output_do_not_matter(tmp_path: Path) -> None:
    """The other output is a loss of an operation and of arrays that are missing."""
    mx = mxnet()
    net = network()
    loss = mx.sym.MakeLoss(mx.sym.broadcast_sub(net, mx.sym.var("centres")), name="loss")
    symbol, params = files(tmp_path, mx.sym.Group([loss, net]))
    document = json.loads(symbol.read_text())
    next(node for node in document["nodes"] if node["op"] == "MakeLoss")["op"] = "Wobble"
    symbol.write_text(json.dumps(document))
    batch = random(2, 3, 8, 8)
    found = MxnetEngine.load(symbol, params, "data", SHAPE, "fc").predict(batch)
    np.testing.assert_allclose(found, forward(batch), atol=1e-5)
    with pytest.raises(ModelFormatError, match=r"lacks parameters .*centres"):
        MxnetEngine.load(symbol, params, "data", SHAPE)


def conv(data: Any, name: str, kernel: int = 1) -> Any:
    pad = (kernel // 2, kernel // 2)
    return mxnet().sym.Convolution(data, kernel=(kernel, kernel), pad=pad, num_filter=4, no_bias=True, name=name)


def norm(data: Any, name: str) -> Any:
    return mxnet().sym.BatchNorm(data, eps=1e-3, fix_gamma=False, name=name)


def relu(data: Any) -> Any:
    return mxnet().sym.Activation(data, act_type="relu")


def preactivated(start: Any) -> Any:
    return conv(relu(norm(start, "b1")), "c2", 3) + start


RESIDUALS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "convolution, normalized and added": (lambda c: norm(c, "b1") + c, False),
    "convolution, normalized first in a residual block": (preactivated, False),
    "the same, the other operand first": (lambda c: c + conv(relu(norm(c, "b1")), "c2", 3), False),
    "convolution, normalized along the last axis": (
        lambda c: mxnet().sym.BatchNorm(c, eps=1e-3, fix_gamma=False, axis=3, name="b1"),
        False,
    ),
    "convolution, activated and added": (lambda c: relu(c) + c, False),
    "normalization, activated and added": (lambda c: (lambda b: relu(b) + b)(norm(c, "b1")), False),
    "normalization, activated, convolved and added": (
        lambda c: (lambda b: conv(relu(b), "c2", 3) + b)(norm(c, "b1")),
        False,
    ),
    "convolution, added twice": (lambda c: (conv(relu(norm(c, "b1")), "c2") + c) + c, False),
    "activation, convolved and added": (lambda c: (lambda r: conv(r, "c2", 3) + r)(relu(norm(c, "b1"))), True),
    "linear bottleneck, convolved and added": (
        lambda c: (lambda b: norm(conv(relu(conv(b, "c2")), "c3"), "b2") + b)(norm(c, "b1")),
        True,
    ),
    "normalization times its own sigmoid": (
        lambda c: (lambda b: b * mxnet().sym.Activation(b, act_type="sigmoid"))(norm(c, "b1")),
        True,
    ),
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_residual_networks_match_mxnet_operation_by_operation(tmp_path: Path, name: str) -> None:
    mx = mxnet()
    block, fused = RESIDUALS[name]
    net = mx.sym.Flatten(block(conv(mx.sym.var("data"), "c1")))
    shapes, _outputs, states = net.infer_shape(data=(2, 3, 8, 8))
    weights = {f"arg:{n}": random(*s, seed=len(n)) for n, s in zip(net.list_arguments(), shapes, strict=True)}
    weights |= {f"aux:{n}": random(*s) + 2 for n, s in zip(net.list_auxiliary_states(), states, strict=True)}
    del weights["arg:data"]
    symbol, params = files(tmp_path, net, weights)
    batch = random(2, 3, 8, 8)

    values = {key.partition(":")[2]: array for key, array in {**weights, "arg:data": batch}.items()}
    expected = one_operation_after_another(read_graph(symbol), values)
    found = MxnetEngine.load(symbol, params, "data", SHAPE).predict(batch)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert is_safe(read_graph(symbol)) is fused


def one_operation_after_another(graph: Graph, values: dict[str, Any]) -> Any:
    """Compute a graph without MXNet's graphs: every operation is called by itself."""
    mx = mxnet()
    computed: list[Any] = []
    for node in graph.nodes:
        if node.op == "null":
            computed.append(mx.nd.zeros(values[node.name].shape))
            computed[-1][:] = values[node.name]
        else:
            operation = getattr(mx.nd, node.op)
            computed.append(operation(*(computed[number] for number in node.inputs), **node.attrs))
    return computed[graph.heads[0]].asnumpy()
