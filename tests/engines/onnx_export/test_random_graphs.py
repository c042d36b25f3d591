"""Random graphs of the operations of image classifiers, against what MXNet computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.onnx_export.networks import compared, mx

sym = mx.sym
SHAPE = (4, 9, 8)
STEPS = 7

Draw = np.random.Generator
Step = Callable[[Any, int, Draw], tuple[Any, int]]
"""A step takes maps and the number of their channels, and returns new ones."""


def convolution(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    groups = int(draw.choice([1, 2, channels])) if channels % 2 == 0 else 1
    filters = groups * int(draw.integers(1, 3)) * 2
    options = {"kernel": (3, 3), "pad": (1, 1), "num_group": groups, "no_bias": bool(draw.integers(2))}
    return sym.Convolution(maps, num_filter=filters, **options), filters


def normalization(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    if draw.integers(4) == 0:
        return sym.InstanceNorm(maps, eps=0.1), channels
    return sym.BatchNorm(maps, fix_gamma=bool(draw.integers(2)), eps=float(draw.choice([1e-3, 2e-5]))), channels


def activation(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    made = [
        lambda: sym.Activation(maps, act_type=str(draw.choice(["relu", "sigmoid", "tanh", "softrelu"]))),
        lambda: sym.LeakyReLU(maps, act_type=str(draw.choice(["leaky", "elu", "prelu", "gelu"])))[0],
        lambda: sym.clip(maps, -1, 6),
        lambda: maps * sym.clip(maps + 3, 0, 6) / 6,
        lambda: sym.square(maps) * 0.1 - 0.5,
    ]
    return made[draw.integers(len(made))](), channels


def pooling(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    size, stride = int(draw.integers(2, 4)), int(draw.integers(1, 3))
    options = {
        "kernel": (size, size),
        "stride": (stride, stride),
        "pad": (1, int(draw.integers(2))) if size > 2 else (0, 0),  # no window lies in the padding alone
        "pool_type": str(draw.choice(["max", "avg", "sum"])),
        "pooling_convention": str(draw.choice(["valid", "full"])),
        "count_include_pad": bool(draw.integers(2)),
    }
    return sym.Pooling(maps, **options), channels


def branches(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    left, filters = convolution(maps, channels, draw)
    right = sym.Convolution(maps, kernel=(1, 1), num_filter=filters)
    if draw.integers(2):
        return sym.Concat(left, right, sym.sin(right), dim=1), 3 * filters
    return [left + right, sym.broadcast_maximum(left, right), left * right][draw.integers(3)], filters


def excitation(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    row = sym.Flatten(sym.Pooling(maps, global_pool=True, kernel=(1, 1), pool_type="avg"))
    gate = sym.sigmoid(sym.FullyConnected(row, num_hidden=channels))
    return sym.broadcast_mul(maps, sym.Reshape(gate, shape=(0, -1, 1, 1))), channels


def shuffling(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    if channels % 2:
        return sym.reverse(maps, axis=1), channels
    if draw.integers(2):
        first, second = sym.split(maps, num_outputs=2, axis=1)
        return sym.concat(second, first, dim=1), channels
    split = sym.reshape(maps, shape=(0, -4, 2, -1, -2))
    return sym.reshape(sym.swapaxes(split, dim1=1, dim2=2), shape=(0, -3, -2)), channels


def edges(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    mode = str(draw.choice(["constant", "edge", "reflect"]))
    padded = sym.Pad(maps, mode=mode, pad_width=(0, 0, 0, 0, 1, 1, 1, 0))
    return sym.slice(padded, begin=(None, None, 1, 0), end=(None, None, None, -1)), channels


def shrinking(maps: Any, channels: int, draw: Draw) -> tuple[Any, int]:
    mean = sym.mean(maps, axis=1, keepdims=True)
    return sym.broadcast_sub(maps, mean), channels


POOL: list[Step] = [
    *(convolution, normalization, activation, pooling, branches, excitation, shuffling, edges, shrinking),
]


def random_graph(draw: Draw) -> Any:
    maps, channels = sym.var("data"), SHAPE[0]
    for _ in range(STEPS):
        step = POOL[draw.integers(len(POOL))]
        maps, channels = step(maps, channels, draw)
    row = sym.FullyConnected(sym.L2Normalization(sym.Flatten(maps)) * 5, num_hidden=6)
    return sym.SoftmaxOutput(row, name="softmax") if draw.integers(2) else sym.log_softmax(row)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= 8)) for seed in range(40)])
def test_a_random_graph_computes_as_in_mxnet(tmp_path: Path, seed: int) -> None:
    symbol = random_graph(np.random.default_rng(seed))
    expected, found = compared(symbol, tmp_path, SHAPE)
    assert np.isfinite(expected).all() and np.ptp(expected) > 1e-3
    for answer in found:
        assert answer == pytest.approx(expected, rel=1e-4, abs=1e-5)
