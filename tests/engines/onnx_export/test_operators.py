"""Every operation that is written as ONNX, under each of its names, against what MXNet computes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.onnx_export.operators import OPERATORS
from app.settings import ROOT
from tests.engines.onnx_export.networks import SHAPE, compared, mx, picture

sym = mx.sym


def named(op: str) -> Any:
    """Return an operation by any name that a graph may have, also those that Python hides."""
    for module in (sym, sym._internal, sym.contrib, sym.linalg):
        for name in (op, op.removeprefix("_contrib_"), op.removeprefix("_"), op.removeprefix("linalg_")):
            function = getattr(module, name, None)
            if function is not None and function.__name__ in (op, name):
                return function
    raise LookupError(op)


def cases(names: str, *options: dict[str, Any], **more: Any) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [(name, option, more) for name in names.split() for option in (options or ({},))]


CONVOLUTION = {"kernel": (3, 3), "num_filter": 6}
POOLING = {"kernel": (3, 3), "stride": (2, 2)}
OF_ONE = [
    *cases(
        "Convolution Convolution_v1",
        CONVOLUTION,
        {**CONVOLUTION, "no_bias": True, "pad": (1, 2), "stride": (2, 1)},
        {**CONVOLUTION, "num_group": 2, "dilate": (2, 2)},
        {"kernel": (1, 1), "num_filter": 8, "num_group": 4, "stride": (2, 2)},
    ),
    *cases("Convolution", {"kernel": (3,), "num_filter": 3, "pad": (1,)}, shape=(4, 9)),
    *cases("Convolution", {"kernel": (2, 3, 3), "num_filter": 3, "pad": (0, 1, 1)}, shape=(2, 4, 5, 5)),
    *cases(
        "Deconvolution",
        CONVOLUTION,
        {**CONVOLUTION, "stride": (2, 2), "pad": (1, 1), "adj": (1, 1), "no_bias": False},
        {**CONVOLUTION, "num_group": 2, "dilate": (2, 1), "pad": (1, 0)},
        {"kernel": (2, 2), "num_filter": 4, "stride": (2, 2), "num_group": 4},
    ),
    *cases(
        "FullyConnected",
        {"num_hidden": 5},
        {"num_hidden": 5, "no_bias": True},
        {"num_hidden": 5, "flatten": False},
        {"num_hidden": 5, "flatten": False, "no_bias": True},
    ),
    *cases("FullyConnected", {"num_hidden": 5}, {"num_hidden": 5, "flatten": False}, shape=(7,)),
    *cases(
        "Pooling",
        *(
            {**POOLING, "pool_type": kind, "pooling_convention": convention, "pad": pad, **more}
            for kind, more in (
                ("max", {}),
                ("avg", {}),
                ("avg", {"count_include_pad": False}),
                ("sum", {}),
                ("lp", {"p_value": 1}),
                ("lp", {"p_value": 2}),
            )
            for convention in ("valid", "full")
            for pad in ((0, 0), (1, 1), (0, 1))
        ),
        {"kernel": (2, 3), "stride": (3, 2), "pool_type": "max"},
        {**POOLING, "pool_type": "max", "pad": (2, 0)},
        {**POOLING, "pool_type": "avg", "pad": (2, 0), "count_include_pad": False},
        {"kernel": (2, 2), "stride": (3, 3), "pool_type": "max", "pooling_convention": "full", "pad": (1, 1)},
        {"kernel": (2, 2), "stride": (1, 1), "pool_type": "avg", "pooling_convention": "full", "pad": (1, 1)},
        {"kernel": (2, 2), "pool_type": "avg"},
        *({"global_pool": True, "pool_type": kind, "kernel": (7, 7)} for kind in ("max", "avg", "sum")),
        {"global_pool": True, "pool_type": "lp", "p_value": 2},
    ),
    *cases("Pooling", {"kernel": (2,), "stride": (2,), "pool_type": "max"}, shape=(4, 9)),
    *cases("Pooling", {"kernel": (2, 2, 2), "stride": (2, 2, 2), "pool_type": "avg"}, shape=(2, 4, 5, 5)),
    *cases(
        "Pooling_v1",
        *(
            {**POOLING, "pool_type": kind, "pooling_convention": convention, "pad": pad}
            for kind in ("max", "avg", "sum")
            for convention in ("valid", "full")
            for pad in ((0, 0), (1, 1), (0, 1))
        ),
        *({"global_pool": True, "pool_type": kind, "kernel": (7, 7)} for kind in ("max", "avg", "sum")),
    ),
    *cases(
        "BatchNorm",
        {},
        {"fix_gamma": False},
        {"fix_gamma": False, "eps": 0.1, "use_global_stats": True},
        {"fix_gamma": False, "axis": 3},
        {"fix_gamma": False, "axis": -2},
    ),
    *cases("BatchNorm", {"fix_gamma": False}, shape=(7,)),
    *cases("BatchNorm_v1 _contrib_BatchNormWithReLU", {}, {"fix_gamma": False, "eps": 0.01}),
    *cases("_contrib_SyncBatchNorm", {"key": "bn"}, {"key": "bn", "fix_gamma": False}),
    *cases("InstanceNorm", {}, {"eps": 0.1}),
    *cases("LayerNorm", {}, {"axis": 1, "eps": 0.1}),
    *cases("GroupNorm", {"num_groups": 2}, {"num_groups": 4, "eps": 0.1}),
    *cases("L2Normalization", {}, {"mode": "channel"}, {"mode": "spatial", "eps": 0.1}),
    *cases("LRN", {"nsize": 3}, {"nsize": 5, "alpha": 0.1, "beta": 0.5, "knorm": 1}),
    *cases("Activation", *({"act_type": kind} for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign"))),
    *cases(
        "LeakyReLU",
        {},
        {"act_type": "leaky", "slope": 0.1},
        {"act_type": "leaky", "slope": 0},
        {"act_type": "elu"},
        {"act_type": "elu", "slope": 1.5},
        {"act_type": "selu"},
        {"act_type": "gelu"},
        {"act_type": "rrelu"},
        {"act_type": "rrelu", "lower_bound": 0.1, "upper_bound": 0.5},
        {"act_type": "prelu"},
    ),
    *cases("LeakyReLU", {"act_type": "prelu"}, shape=(7,)),
    *cases("softmax log_softmax softmin", {}, {"axis": 1}, {"axis": -2, "temperature": 2.5}),
    *cases("SoftmaxActivation", {}, {"mode": "channel"}),
    *cases("SoftmaxOutput Softmax", {}, {"multi_output": True}, {"preserve_shape": True}),
    *cases("SoftmaxOutput Softmax", shape=(7,)),
    *cases("Flatten flatten"),
    *cases(
        "Reshape reshape",
        *(
            {"shape": shape}
            for shape in (
                (0, -1),
                (-1, 4, 36),
                (0, 0, -3),
                (0, -4, 2, 2, -2),
                (0, -4, -1, 2, 0, 0),
                (-2, 1, 1),
                (-3, -2),
            )
        ),
        *(
            {"shape": shape, "reverse": True}
            for shape in ((-1, 0), (-2, 0), (4, -3), (1, -1, 0, 0), (0, 2, -1, -4, 0, 0))
        ),
        {"target_shape": (1, 0)},
        {"target_shape": (0, 4, 36), "keep_highest": True},
        {"target_shape": (0, 0, 36), "keep_highest": True},
    ),
    *cases("transpose", {}, {"axes": (0, 2, 3, 1)}),
    *cases("SwapAxis swapaxes", {"dim1": 1, "dim2": 3}),
    *cases("expand_dims", {"axis": 1}, {"axis": -1}),
    *cases("squeeze", {"axis": 1}, {"axis": (1, -1)}, shape=(1, 5, 1)),
    *cases("depth_to_space space_to_depth", {"block_size": 2}),
    *cases("slice crop", {"begin": (0, 1), "end": (1, 3)}, {"begin": (None, 1, -3), "end": (None, None, -1)}),
    *cases("slice", {"begin": (0, 0, 5, None), "end": (1, 4, 0, None), "step": (1, 2, -2, -1)}),
    *cases("slice_axis", {"axis": 1, "begin": 1, "end": 3}, {"axis": -1, "begin": -3, "end": None}),
    *cases(
        "Crop", {"h_w": (3, 4), "offset": (1, 2), "num_args": 1}, {"h_w": (3, 4), "center_crop": True, "num_args": 1}
    ),
    *cases("reverse flip", {"axis": 1}),
    *cases("reverse", {"axis": (2, 3)}),
    *cases(
        "Pad pad",
        {"mode": "constant", "pad_width": (0, 0, 0, 0, 1, 2, 3, 0), "constant_value": 0.5},
        {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 2, 3, 0)},
        {"mode": "reflect", "pad_width": (0, 0, 0, 0, 1, 2, 3, 0)},
    ),
    *cases("UpSampling", {"scale": 2, "sample_type": "nearest", "num_args": 1}),
    *cases("_contrib_AdaptiveAvgPooling2D", {}, {"output_size": 2}, {"output_size": (4, 5)}),
    *cases("_contrib_BilinearResize2D", {"height": 9, "width": 4}),
    *cases("broadcast_to", {"shape": (0, 0, 6, 6)}, shape=(4, 1, 6)),
    *cases("broadcast_axis broadcast_axes", {"axis": (1, 3), "size": (3, 2)}, shape=(1, 6, 1)),
    *cases("tile", {"reps": (1, 2, 1, 3)}, {"reps": (2, 1)}),
    *cases("repeat", {"repeats": 3, "axis": 2}),
    *cases(
        "mean sum sum_axis nansum max max_axis min min_axis prod nanprod",
        {"axis": (2, 3)},
        {"axis": 1, "keepdims": True},
        {"axis": (0, 1), "exclude": True},
        {"axis": -1},
    ),
    *cases("mean sum max"),
    *cases("norm", {"axis": 1}, {"axis": (2, 3), "keepdims": True}, {"ord": 1, "axis": 2}, {}),
    *cases("clip", {"a_min": -0.5, "a_max": 1}),
    *cases("hard_sigmoid", {}, {"alpha": 0.3, "beta": 0.4}),
    *cases("smooth_l1", {"scalar": 1.0}, {"scalar": 2.0}),
    *cases("Dropout", {"p": 0.5}),
    *cases("Cast cast", {"dtype": "float32"}),
    *cases("amp_cast", {"dtype": "float32"}),
    *cases(
        "BlockGrad stop_gradient identity _copy make_loss MakeLoss LinearRegressionOutput MAERegressionOutput "
        "LogisticRegressionOutput SVMOutput"
    ),
    *cases("IdentityAttachKLSparseReg", shape=(7,)),
    *cases("zeros_like ones_like _contrib_div_sqrt_dim _contrib_gradientmultiplier logical_not"),
    *cases(
        "square cbrt rcbrt exp expm1 abs sign floor ceil fix trunc round rint negative reciprocal sin cos tan arctan "
        "sinh cosh arcsinh degrees radians erf tanh sigmoid relu softsign"
    ),
    *cases("sqrt rsqrt log log2 log10 log1p", positive=True),
    *cases("arcsin arccos arctanh", small=True),
    *cases("arccosh", large=True),
    *cases(
        "_plus_scalar _PlusScalar _minus_scalar _MinusScalar _rminus_scalar _RMinusScalar _mul_scalar _MulScalar "
        "_div_scalar _DivScalar _rdiv_scalar _RDivScalar _mod_scalar _ModScalar _rmod_scalar _RModScalar "
        "_maximum_scalar _MaximumScalar _minimum_scalar _MinimumScalar _rpower_scalar _RPowerScalar "
        "_hypot_scalar _HypotScalar "
        "_greater_scalar _GreaterScalar _greater_equal_scalar _GreaterEqualScalar _lesser_scalar _LesserScalar "
        "_lesser_equal_scalar _LesserEqualScalar",
        {"scalar": 0.7},
    ),
    *cases("_power_scalar _PowerScalar", {"scalar": 2.0}, {"scalar": 3.0}),
    *cases("_power_scalar", {"scalar": 0.5}, positive=True),
    *cases("_equal_scalar _EqualScalar _not_equal_scalar _NotEqualScalar", {"scalar": 1.0}, rounded=True),
    *cases("_greater_equal_scalar _lesser_equal_scalar _greater_scalar _lesser_scalar", {"scalar": 1.0}, rounded=True),
    *cases("_mod_scalar", {"scalar": -0.7}),
]


def batch_for(shape: tuple[int, ...], how: dict[str, Any]) -> Any:
    batch = picture(shape)
    if how.get("positive"):
        return np.abs(batch) + np.float32(0.1)
    if how.get("small"):
        return batch / np.float32(2.5)
    if how.get("large"):
        return np.abs(batch) + np.float32(1.1)
    return np.round(batch) if how.get("rounded") else batch


def assert_equal(symbol: Any, folder: Path, shape: tuple[int, ...], batch: Any = None) -> None:
    # the axis in front is the batch's: some operations move what was the batch to another place
    expected, found = compared(sym.expand_dims(symbol, axis=0), folder, shape, batch)
    for answer in found:
        assert answer.shape == expected.shape
        assert answer == pytest.approx(expected, rel=2e-5, abs=2e-5)


def first_of_each(found: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[Any]:
    """Return the cases; those of an operation after its first are slow."""
    ops = [op for op, _, _ in found]
    return [
        pytest.param(*case, marks=[pytest.mark.slow] * (case[0] in ops[:place])) for place, case in enumerate(found)
    ]


@pytest.mark.parametrize(("op", "options", "how"), first_of_each(OF_ONE), ids=lambda part: str(part).replace(" ", ""))
def test_an_operation_on_one_array_computes_as_in_mxnet(
    tmp_path: Path, op: str, options: dict[str, Any], how: dict[str, Any]
) -> None:
    shape = how.get("shape", SHAPE)
    symbol = named(op)(sym.var("data"), **options)[0]
    assert_equal(symbol, tmp_path, shape, batch_for(shape, how))


BINARY = (
    "elemwise_add _add _plus _Plus _grad_add elemwise_sub _sub _minus _Minus elemwise_mul _mul _Mul elemwise_div _div "
    "_Div _mod _Mod _maximum _Maximum _minimum _Minimum _hypot _Hypot _greater _Greater _greater_equal _Greater_Equal "
    "_lesser _Lesser _lesser_equal _Lesser_Equal _equal _Equal _not_equal _Not_Equal"
)
BROADCAST = (
    "broadcast_add broadcast_plus broadcast_sub broadcast_minus broadcast_mul broadcast_div broadcast_mod "
    "broadcast_maximum broadcast_minimum broadcast_hypot broadcast_equal broadcast_not_equal broadcast_greater "
    "broadcast_greater_equal broadcast_lesser broadcast_lesser_equal"
)


@pytest.mark.parametrize("op", BINARY.split())
def test_an_operation_on_two_arrays_computes_as_in_mxnet(tmp_path: Path, op: str) -> None:
    data = sym.var("data")
    other = sym.transpose(data, axes=(0, 1, 3, 2)) if "qual" in op else sym.var("weight", shape=(1, *SHAPE))
    assert_equal(named(op)(data, other), tmp_path, SHAPE, np.round(picture()) if "qual" in op else picture())


@pytest.mark.parametrize("op", BROADCAST.split())
def test_an_operation_with_broadcasting_computes_as_in_mxnet(tmp_path: Path, op: str) -> None:
    data = sym.var("data")
    batch = np.round(picture()) if "qual" in op else picture()
    other = sym.mean(data, axis=(2, 3), keepdims=True) if "qual" not in op else sym.max(data, axis=1, keepdims=True)
    assert_equal(named(op)(data, other), tmp_path, SHAPE, batch)
    assert_equal(named(op)(other, data), tmp_path, SHAPE, batch)


POWERS = ("_power", "_Power", "broadcast_power")


@pytest.mark.parametrize("op", POWERS)
def test_powers_compute_as_in_mxnet(tmp_path: Path, op: str) -> None:
    data = sym.var("data")
    assert_equal(named(op)(sym.abs(data), sym.cos(data)), tmp_path, SHAPE)


def two(data: Any) -> tuple[Any, Any]:
    return sym.Convolution(data, name="c1", **CONVOLUTION), sym.Convolution(data, name="c2", **CONVOLUTION)


SEVERAL: dict[str, Callable[[Any], Any]] = {
    "Concat": lambda data: sym.Concat(
        *two(data), data.slice_axis(axis=1, begin=0, end=2).slice(begin=(0, 0, 1, 1), end=(1, 2, 5, 5)), dim=1
    ),
    "concat": lambda data: sym.concat(*two(data), dim=-1),
    "stack": lambda data: sym.stack(*two(data), axis=2),
    "add_n": lambda data: sym.add_n(*two(data), sym.Convolution(data, name="c3", **CONVOLUTION)),
    "ElementWiseSum": lambda data: sym.ElementWiseSum(*two(data)),
    "SliceChannel": lambda data: sym.SliceChannel(data, num_outputs=2)[1],
    "SliceChannel, both parts": lambda data: (
        sym.SliceChannel(data, num_outputs=2)[1] - sym.split(data, num_outputs=2)[0]
    ),
    "split": lambda data: sym.split(data, num_outputs=6, axis=2, squeeze_axis=True)[3],
    "_split_v2": lambda data: sym.split_v2(data, (1, 3), axis=1)[1],
    "_split_v2, sections": lambda data: sym.split_v2(data, 2, axis=3)[1],
    "Crop": lambda data: sym.Crop(data, two(data)[0], offset=(1, 2)),
    "Crop, centre": lambda data: sym.Crop(data, two(data)[0], center_crop=True),
    "slice_like": lambda data: sym.slice_like(data, two(data)[0], axes=(2, 3)),
    "broadcast_like": lambda data: sym.broadcast_like(sym.mean(data, axis=1, keepdims=True), data),
    "reshape_like": lambda data: sym.reshape_like(sym.Flatten(data), sym.transpose(data)),
    "_identity_with_attr_like_rhs": lambda data: sym._internal._identity_with_attr_like_rhs(data, sym.sin(data)),
    "where": lambda data: sym.where(data > 0.5, sym.sin(data), data * 2),
    "dot": lambda data: sym.dot(sym.Flatten(data), sym.var("weight", shape=(144, 5))),
    "dot, turned": lambda data: sym.dot(sym.Flatten(data), sym.var("weight", shape=(5, 144)), transpose_b=True),
    "dot of more axes": lambda data: sym.dot(data, sym.var("weight", shape=(6, 3, 2))),
    "batch_dot": lambda data: sym.batch_dot(
        sym.reshape(data, (0, 0, -1)), sym.reshape(data, (0, 0, -1)), transpose_b=True
    ),
    "linalg_gemm2": lambda data: sym.linalg.gemm2(data, sym.sin(data), transpose_a=True, alpha=0.5),
    "amp_multicast": lambda data: sym.amp_multicast(data, sym.sin(data), num_outputs=2)[1],
    "_zeros": lambda data: sym.broadcast_add(data, sym.zeros((1, 4, 6, 6))),
    "_zeros_without_dtype": lambda data: sym.broadcast_add(data, sym._internal._zeros_without_dtype((1, 4, 6, 6))),
    "_ones": lambda data: sym.broadcast_add(data, sym.ones((1, 4, 6, 6))),
    "_full": lambda data: sym.broadcast_add(data, sym.full((1, 4, 6, 6), 3)),
    "UpSampling": lambda data: sym.UpSampling(
        data,
        sym.Pooling(data, kernel=(2, 2), stride=(2, 2), pool_type="max"),
        scale=2,
        sample_type="nearest",
        num_args=2,
    ),
    "UpSampling, sum": lambda data: sym.UpSampling(
        data, sym.sin(data), scale=3, sample_type="nearest", num_args=2, multi_input_mode="sum"
    ),
    "UpSampling, bilinear": lambda data: sym.UpSampling(
        data, sym.var("weight"), scale=2, sample_type="bilinear", num_filter=4, num_args=2
    ),
    "UpSampling, bilinear by 3": lambda data: sym.UpSampling(
        data, sym.var("weight"), scale=3, sample_type="bilinear", num_filter=4, num_args=2
    ),
    "padding before a transposed convolution": lambda data: sym.Deconvolution(
        sym.Pad(data, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 2, 2)), stride=(2, 2), name="d", **CONVOLUTION
    ),
    "LeakyReLU with one slope": lambda data: sym.LeakyReLU(data, gamma=sym.var("gamma", shape=(1,)), act_type="prelu")[
        0
    ],
    "dropped out": lambda data: sym.Dropout(data)[0],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_an_operation_on_several_arrays_computes_as_in_mxnet(tmp_path: Path, name: str) -> None:
    assert_equal(SEVERAL[name](sym.var("data")), tmp_path, SHAPE)


def test_a_transposed_convolution_to_a_stated_size_computes_as_in_mxnet(tmp_path: Path) -> None:
    """MXNet's build for MKL-DNN cannot compute it, so it computes it without, in a process of its own."""
    code = f"""
from pathlib import Path
from tests.engines.onnx_export.test_operators import CONVOLUTION, SHAPE, assert_equal, sym
for size in ((12, 12), (11, 10)):
    made = sym.Deconvolution(sym.var("data"), stride=(2, 2), target_shape=size, **CONVOLUTION)
    assert_equal(made, Path({str(tmp_path)!r}), SHAPE)
print("equal")
"""
    environment = {**os.environ, "MXNET_MKLDNN_ENABLED": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["equal"], done.stderr


OLDER = {"CuDNNBatchNorm": "BatchNorm", "_linalg_gemm2": "linalg_gemm2"}
"""Names that MXNet 1.9 no longer knows, and today's."""


def test_every_name_of_every_operation_is_covered_here() -> None:
    compared_names = {op for op, _options, _how in OF_ONE} | {name.partition(",")[0] for name in SEVERAL}
    compared_names |= {*BINARY.split(), *BROADCAST.split(), *POWERS, *OLDER}
    assert set(OPERATORS) <= compared_names
    assert all(OPERATORS[old] is OPERATORS[new] for old, new in OLDER.items())
