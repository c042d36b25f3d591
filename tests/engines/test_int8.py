from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines import quantization
from app.engines.base import LoadedEngine
from app.engines.conversion import load_reference
from app.engines.int8 import open_quantized
from app.engines.loader import load
from app.errors import DataError, ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.mxnet_params import write_params
from tests.engines.networks import classifier, convolution, model_folder, mx, pictures, random_params, write_description

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="nncf is not installed; requirements-quantize.txt brings it"
)

HELD_OUT = 200


def network() -> Any:
    return classifier(mx.sym.relu(convolution(mx.sym.relu(convolution(filters=16)), 16, "second")))


def coloured(count: int, seed: int) -> Any:
    """Return noise of many colours, so that not every picture is of the same class."""
    draw = np.random.default_rng(seed)
    return (pictures(count, seed=seed) * draw.uniform(0, 1, (count, 3, 1, 1))).astype(np.float32)


def inputs(folder: Path) -> tuple[Path, Path]:
    """Return rows for the calibration, and others, as files."""
    files = folder / "calibration", folder / "others"
    coloured(40, seed=1).tofile(files[0])
    coloured(HELD_OUT, seed=2).tofile(files[1])
    return files


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> ModelFolder:
    """Return a model with a quantized network; no test may change it."""
    work = tmp_path_factory.mktemp("made")
    folder = model_folder(work / "net", network(), seed=1)
    quantization.quantize(folder, "auto", cache, inputs(work), 0.5)
    return folder


@pytest.fixture
def own(made: ModelFolder, tmp_path: Path) -> ModelFolder:
    """Return a copy of the model, which may be changed."""
    shutil.copytree(made.path, tmp_path / "net")
    return open_model_folder(tmp_path / "net")


def opened(folder: ModelFolder, cache: Path, choice: str = "auto") -> LoadedEngine:
    found = load(folder, choice, cache)
    found.engine.close()
    return found


def test_the_agreement_compares_the_served_engine_with_the_reference(made: ModelFolder, cache: Path) -> None:
    found = load(made, "auto", cache)
    assert (found.kind, found.precision, found.parity) == ("openvino", "int8", None)
    others = coloured(HELD_OUT, seed=2)
    expected = load_reference(made, "auto").engine.predict(others)
    answers = found.engine.predict(others)
    same = (answers.argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert found.agreement is not None
    assert found.agreement.top1 == pytest.approx(same)
    assert (found.agreement.samples, found.agreement.calibrated) == (HELD_OUT, 40)
    assert same >= 0.5
    assert 1e-5 < np.abs(answers - expected).max() < 0.2  # quantized, and still the same network


def test_the_weights_are_bytes_and_a_quarter_of_the_size(made: ModelFolder, cache: Path) -> None:
    weights = sum(value.size for value in random_params(network()).values())
    assert weights < (made.path / "int8" / "model.bin").stat().st_size < 2 * weights
    assert 'element_type="i8"' in (made.path / "int8" / "model.xml").read_text()


def test_a_moved_folder_is_served_without_a_conversion(own: ModelFolder, tmp_path: Path) -> None:
    assert opened(own, tmp_path / "empty").precision == "int8"
    assert not list((tmp_path / "empty").glob("*/model.xml"))


def test_the_reference_serves_if_it_is_chosen(made: ModelFolder, cache: Path) -> None:
    found = opened(made, cache, "mxnet")
    assert (found.kind, found.precision) == ("mxnet", "fp32")


def change_weights(folder: Path) -> None:
    write_params(folder / "net-0000.params", random_params(network(), seed=5))


def change_description(folder: Path) -> None:
    write_description(folder, scale=1 / 128)


def damage(folder: Path) -> None:
    whole = bytearray((folder / "int8" / "model.bin").read_bytes())
    whole[len(whole) // 2] ^= 1
    (folder / "int8" / "model.bin").write_bytes(whole)


def break_record(folder: Path) -> None:
    (folder / "int8" / "record.json").write_text('{"made_from": 1}')


@pytest.mark.parametrize("spoil", [change_weights, change_description, damage, break_record])
def test_a_mismatched_int8_network_is_not_served_and_the_log_says_why(
    own: ModelFolder, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(own.path)
    caplog.set_level(logging.WARNING, "app.engines.int8")
    assert open_quantized(open_model_folder(own.path), "auto") is None
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("net: its int8 network")
    assert "dimple models quantize" in line


def test_the_32_bit_network_is_served_if_the_int8_network_is_damaged(own: ModelFolder, cache: Path) -> None:
    damage(own.path)
    found, reference = load(own, "auto", cache), load_reference(own, "auto")
    assert (found.kind, found.precision, found.agreement) == ("openvino", "fp32", None)
    assert found.engine.predict(pictures(3)) == pytest.approx(reference.engine.predict(pictures(3)), abs=1e-5)


def test_the_int8_network_is_removed_once(own: ModelFolder, cache: Path) -> None:
    assert quantization.remove(own)
    assert not quantization.remove(own)
    assert opened(own, cache).precision == "fp32"
    assert sorted(path.name for path in own.path.iterdir()) == ["net-0000.params", "net-symbol.json", "signature.json"]


def test_a_network_that_disagrees_too_often_is_refused_and_the_previous_one_kept(
    own: ModelFolder, cache: Path, tmp_path: Path
) -> None:
    misleading = inputs(tmp_path)
    (pictures(40) / 100).tofile(misleading[0])  # hardly any light: the quantized network cuts off what is lighter
    before = {path: path.read_bytes() for path in own.path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"net stays as it is: .*% of 200 other pictures .* 99\.00%"):
        quantization.quantize(own, "auto", cache, misleading, 0.99)
    assert {path: path.read_bytes() for path in own.path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_model_that_openvino_must_not_serve_is_not_quantized(tmp_path: Path, cache: Path) -> None:
    pooled = mx.sym.Pooling(
        convolution(), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full"
    )
    folder = model_folder(tmp_path / "net", classifier(pooled))
    with pytest.raises(ModelFormatError, match="net cannot be quantized, since openvino may not serve it"):
        quantization.quantize(folder, "auto", cache, inputs(tmp_path), 0.99)
