from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.engines.cache import Entry, read_entry
from app.engines.conversion import build, load_reference
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import LIMIT, samples
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.mxnet_params import read_params, write_params
from app.settings import ROOT
from app.types import Layout, Preprocess
from tests.engines.networks import classifier, convolution, model_folder, mx

SHARED = ROOT.parent / "shared" / "data"
TESTDATA = ROOT / "tests" / "testdata"


def built(folder: ModelFolder, path: Path) -> Entry:
    path.mkdir()
    build(folder, "auto", path)
    entry = read_entry(path)
    assert entry is not None
    return entry


def engine_of(entry: Entry) -> OpenvinoEngine:
    assert entry.record.reason == ""
    return OpenvinoEngine.load(entry.path / "model.xml", entry.record.milliseconds)


@pytest.mark.parametrize("name", ["keras_branches", "tf_keras_channels_first", "tf_keras_nested", "keras_depthwise"])
def test_keras_files_of_both_channel_orders_answer_as_tensorflow_does(tmp_path: Path, name: str) -> None:
    facts = json.loads((TESTDATA / f"{name}.json").read_text())
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.h5").write_bytes((TESTDATA / f"{name}.h5").read_bytes())
    entry = built(open_model_folder(tmp_path / "net"), tmp_path / "entry")
    assert entry.record.parity is not None and entry.record.parity.reference == "keras"
    assert entry.inference is not None
    assert entry.inference.signature.preprocess.layout == ("NCHW" if "first" in name else "NHWC")
    answers = engine_of(entry).predict(np.array(facts["pictures"], np.float32))
    assert answers == pytest.approx(np.array(facts["answers"]), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "classes"), [pytest.param("squeezenet_v1.0", 1000, marks=pytest.mark.slow), ("cifar_resnet20_v1", 10)]
)
def test_published_checkpoints_answer_as_in_mxnet(tmp_path: Path, name: str, classes: int) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"the published checkpoint {name} is not beside this checkout (../shared/data)")
    folder = replace(open_model_folder(SHARED / name), labels=None)
    entry = built(folder, tmp_path / "entry")
    assert entry.inference is not None
    batch = (
        np.random.default_rng(2).uniform(0, 255, (2, *entry.inference.signature.inputs[0].shape[1:])).astype(np.float32)
    )
    found, expected = engine_of(entry).predict(batch), load_reference(folder, "auto").engine.predict(batch)
    assert found.shape == (2, classes)
    assert found == pytest.approx(expected, abs=1e-5 * max(1, np.abs(expected).max()))


def test_an_operation_that_cannot_be_converted_is_the_reason_and_nothing_else_is_left(tmp_path: Path) -> None:
    symbol = classifier(mx.sym.sort(convolution(), axis=1, name="sorted"))
    entry = built(model_folder(tmp_path / "net", symbol), tmp_path / "entry")
    assert "the operation sort cannot be converted (node sorted)" in entry.record.reason
    assert [file.name for file in entry.path.iterdir()] == ["record.json"]


def test_a_too_large_difference_is_the_reason_for_the_refusal(tmp_path: Path) -> None:
    maps = mx.sym.sin(convolution() * 1e6)  # it makes the engines' different rounding as large as its answer
    record = built(model_folder(tmp_path / "net", classifier(maps)), tmp_path / "entry").record
    assert record.parity is not None and record.parity.max_abs_difference > LIMIT
    assert f"by {record.parity.max_abs_difference:.1e}" in record.reason


def test_nan_weights_are_not_considered_equal(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "net", classifier(convolution()))
    assert folder.checkpoint is not None
    params = {name: np.array(array) for name, array in read_params(folder.checkpoint.params).items()}
    params["arg:fc_bias"][:] = np.nan
    write_params(folder.checkpoint.params, params)
    assert "not numbers" in built(folder, tmp_path / "entry").record.reason


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((0, 3, 32, 48), "NCHW"), ((0, 32, 48, 3), "NHWC"), ((0, 1, 64, 64), "NCHW"), ((0, 4, 20, 20), "NCHW")],
)
def test_samples_are_many_diverse_and_scaled(shape: tuple[int, ...], layout: Layout) -> None:
    rows = samples(Preprocess(scale=1 / 255, mean=(0.5,), std=(0.25,), layout=layout), shape)
    assert rows.shape == (14, *shape[1:]) and rows.dtype == np.float32
    assert (rows.min(), rows.max()) == pytest.approx((-2, 2), abs=0.02)  # (0 - 0.5) / 0.25 and (1 - 0.5) / 0.25
    gaps = [np.abs(row - other).mean() for number, row in enumerate(rows) for other in rows[:number]]
    assert min(gaps) > 0.1
    assert np.array_equal(rows, samples(Preprocess(scale=1 / 255, mean=(0.5,), std=(0.25,), layout=layout), shape))


def test_an_input_that_is_not_a_picture_is_sampled_with_noise() -> None:
    rows = samples(Preprocess(), (0, 6))
    assert rows.shape == (14, 6) and 100 < rows.mean() < 155
