from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import prepare
from app.engines.mxnet.engine import MxnetEngine
from app.engines.mxnet.passes import merge_biases
from app.formats.mxnet_params import write_params
from tests.rounding import rounding

prepare()
import mxnet as mx  # noqa: E402

DRAW = np.random.default_rng(4)


def as_keras_writes_it(residual: bool = False) -> Any:
    """Return convolution, bias and ReLU, twice; with ``residual`` the sums with the two biases are added once more."""
    flow = mx.sym.var("data")
    firsts = []
    for number, filters in enumerate((4, 4)):
        bare = mx.sym.Convolution(
            flow, kernel=(3, 3), pad=(1, 1), num_filter=filters, no_bias=True, name=f"conv{number}"
        )
        row = mx.sym.reshape(mx.sym.var(f"bias{number}", shape=(filters,)), shape=(1, filters, 1, 1))
        biased = mx.sym.broadcast_add(bare, row)
        firsts.append(biased)
        flow = mx.sym.LeakyReLU(biased, act_type="leaky", slope=0)
    if residual:
        flow = mx.sym.elemwise_add(firsts[0], firsts[1])
    return mx.sym.softmax(mx.sym.FullyConnected(mx.sym.flatten(flow), num_hidden=3, name="fc"), name="softmax")


def operations(document: dict[str, Any]) -> list[str]:
    """Return the operations that MXNet computes of a network, after dropping unused ones."""
    left = json.loads(mx.sym.load_json(json.dumps(document)).tojson())
    return [node["op"] for node in left["nodes"] if node["op"] != "null"]


@pytest.mark.parametrize("residual", [False, True])
def test_the_engine_answers_as_mxnet_does_for_the_unmodified_network(tmp_path: Path, residual: bool) -> None:
    symbol = as_keras_writes_it(residual)
    shapes, outputs, _ = symbol.infer_shape(data=(2, 3, 8, 8))
    params = {
        name: DRAW.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in zip(symbol.list_arguments(), shapes, strict=True)
        if name != "data"
    }
    batch = DRAW.normal(size=(2, 3, 8, 8)).astype(np.float32)
    arguments = {name: mx.nd.array(array) for name, array in (params | {"data": batch}).items()}
    expected = symbol.bind(mx.cpu(), arguments, grad_req="null").forward(is_train=False)[0].asnumpy()
    assert np.ptp(expected) > 0.01

    symbol.save(str(tmp_path / "net-symbol.json"))
    write_params(tmp_path / "net-0000.params", {f"arg:{name}": array for name, array in params.items()})
    engine = MxnetEngine.load(tmp_path / "net-symbol.json", tmp_path / "net-0000.params", "data", (0, 3, 8, 8))
    assert engine.predict(batch) == pytest.approx(expected, abs=rounding(3, largest=10))
    assert outputs == [(2, 3)]


def test_an_added_bias_is_merged_into_its_convolution() -> None:
    document = json.loads(as_keras_writes_it().tojson())
    assert operations(document).count("broadcast_add") == 2
    merged = merge_biases(document)
    assert operations(merged) == [
        "Convolution",
        "LeakyReLU",
        "Convolution",
        "LeakyReLU",
        "Flatten",
        "FullyConnected",
        "softmax",
    ]


def add(convolution: Any, row: Any) -> dict[str, Any]:
    return json.loads(mx.sym.broadcast_add(convolution, row).tojson())


def bare(**more: Any) -> Any:
    return mx.sym.Convolution(mx.sym.var("data"), **{"kernel": (1, 1), "num_filter": 4, "no_bias": True, **more})


@pytest.mark.parametrize(
    "document",
    [
        add(bare(no_bias=False), mx.sym.reshape(mx.sym.var("b"), shape=(1, 4, 1, 1))),
        add(bare(), mx.sym.reshape(mx.sym.var("b"), shape=(1, 1, 4, 1))),
        add(bare(), mx.sym.reshape(mx.sym.relu(mx.sym.var("b")), shape=(1, 4, 1, 1))),
        add(bare(), mx.sym.var("b")),
        add(mx.sym.relu(bare()), mx.sym.reshape(mx.sym.var("b"), shape=(1, 4, 1, 1))),
    ],
    ids=["has a bias", "another axis", "not learned", "no row", "not of the convolution"],
)
def test_operations_that_only_resemble_a_bias_are_left_unchanged(document: dict[str, Any]) -> None:
    assert merge_biases(document) == document


def test_a_convolution_that_is_also_used_without_its_bias_is_left_unchanged() -> None:
    convolution = bare()
    biased = mx.sym.broadcast_add(convolution, mx.sym.reshape(mx.sym.var("b"), shape=(1, 4, 1, 1)))
    document = json.loads(mx.sym.Group([biased, mx.sym.relu(convolution)]).tojson())
    assert merge_biases(document) == document
