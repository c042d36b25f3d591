from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.conversion import load_reference
from app.engines.loader import LoadedEngine, load
from app.engines.parity import LIMIT
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.settings import ROOT
from tests.engines.networks import classifier, convolution, model_folder, mx, pictures

SMILE = ROOT / "models" / "smile"


def simple() -> Any:
    return classifier(mx.sym.relu(convolution()))


def chaotic() -> Any:
    """Return a network that makes the engines' different rounding as large as its answer."""
    return classifier(mx.sym.sin(convolution() * 1e6))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that holds the smile model."""
    folder = tmp_path_factory.mktemp("cache")
    load(open_model_folder(SMILE), "auto", folder).engine.close()
    return folder


@pytest.fixture
def conversions(caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that counts the conversions in this test."""
    caplog.set_level(logging.INFO, "app.engines")
    return lambda: sum("Converting" in record.getMessage() for record in caplog.records)


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def assert_equal(opened: LoadedEngine, reference: LoadedEngine, batch: Any) -> None:
    expected = reference.engine.predict(batch)
    assert np.ptp(expected, axis=0).max() > 10 * LIMIT
    assert opened.engine.predict(batch) == pytest.approx(expected, abs=LIMIT / 10)


def test_the_smile_network_is_served_by_openvino_as_mxnet_computes_it(cache: Path) -> None:
    folder = open_model_folder(SMILE)
    opened, reference = load(folder, "auto", cache), load_reference(folder, "auto")
    assert (opened.kind, opened.precision, opened.signature) == ("openvino", "fp32", reference.signature)
    assert opened.parity is not None and opened.parity.max_abs_difference < LIMIT
    assert (opened.parity.reference, opened.parity.samples) == ("mxnet", 14)
    assert_equal(opened, reference, np.random.default_rng(1).random((6, 1, 64, 64), dtype=np.float32))


def test_a_warm_cache_needs_neither_mxnet_nor_keras_and_gives_the_same_bits(cache: Path) -> None:
    batch = np.random.default_rng(1).random((6, 1, 64, 64), dtype=np.float32)
    here = load(open_model_folder(SMILE), "auto", cache).engine.predict(batch)
    code = f"""
import sys, numpy
from pathlib import Path
from app.engines.loader import load
from app.formats.folder import open_model_folder
opened = load(open_model_folder(Path({str(SMILE)!r})), "auto", Path({str(cache)!r}))
batch = numpy.random.default_rng(1).random((6, 1, 64, 64), dtype=numpy.float32)
print(opened.engine.predict(batch).tobytes().hex(), {{"mxnet", "keras", "onnx", "h5py"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [here.tobytes().hex(), "set()"]


@pytest.mark.parametrize("choice", ["auto", "mxnet", "keras"])
def test_the_reference_serves_if_it_is_chosen_or_there_is_no_cache(choice: str, tmp_path: Path) -> None:
    opened = load(open_model_folder(SMILE), choice, None if choice == "auto" else tmp_path)
    assert (opened.kind, opened.parity) == ("keras" if choice == "keras" else "mxnet", None)
    assert not list(tmp_path.iterdir())


def test_a_damaged_entry_is_rebuilt(tmp_path: Path, conversions: Any) -> None:
    folder, cache = model_folder(tmp_path / "net", simple()), tmp_path / "cache"
    before = load(folder, "auto", cache).engine.predict(pictures(3))
    [entry] = entries(cache)
    whole = bytearray((entry / "model.bin").read_bytes())
    whole[len(whole) // 2] ^= 1
    (entry / "model.bin").write_bytes(whole)
    again = load(folder, "auto", cache)
    assert (again.kind, conversions()) == ("openvino", 2)
    assert np.array_equal(again.engine.predict(pictures(3)), before)
    assert not list(cache.glob(".*.partial"))


@pytest.mark.slow
def test_a_retrained_model_is_converted_again_and_its_old_entry_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old = load(model_folder(tmp_path / "net", simple(), seed=0), "auto", cache)
    [first] = entries(cache)
    folder = model_folder(tmp_path / "net", simple(), seed=1)
    opened = load(folder, "auto", cache)
    assert_equal(opened, load_reference(folder, "auto"), pictures(3))
    assert np.abs(opened.engine.predict(pictures(3)) - old.engine.predict(pictures(3))).max() > 10 * LIMIT
    [second] = entries(cache)
    assert first != second


def test_two_processes_that_start_at_once_convert_once(tmp_path: Path) -> None:
    model_folder(tmp_path / "net", simple())
    code = f"""
import logging, sys
from pathlib import Path
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
from app.engines.loader import load
from app.formats.folder import open_model_folder
print(load(open_model_folder(Path({str(tmp_path / "net")!r})), "auto", Path({str(tmp_path / "cache")!r})).kind)
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0].split("\n") for process in started]
    assert sorted(len(lines) for lines in outputs) == [2, 3]  # "openvino", and once "Converting" before it
    assert all(lines[-2] == "openvino" for lines in outputs)


def test_an_unproven_conversion_is_served_by_the_reference_and_not_retried(
    tmp_path: Path, conversions: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = model_folder(tmp_path / "net", chaotic()), tmp_path / "cache"
    for _ in range(2):
        opened = load(folder, "auto", cache)
        assert (opened.kind, opened.parity) == ("mxnet", None)
        assert_equal(opened, load_reference(folder, "auto"), pictures(3))
    log_records = [record for record in caplog.records if "not by openvino" in record.getMessage()]
    assert len(log_records) == 2 and all(record.levelno == logging.INFO for record in log_records)
    with pytest.raises(ModelFormatError, match=r"cannot be served by openvino: .* by \d\.\de-0[123]; 1e-04 .*'auto'"):
        load(folder, "openvino", cache)
    assert conversions() == 1


def test_a_model_refused_by_the_reference_keeps_its_message_and_leaves_no_entry(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "net", simple())
    assert folder.checkpoint is not None
    folder.checkpoint.symbol.write_text(folder.checkpoint.symbol.read_text().replace("Convolution", "Nonsense"))
    for choice in ("auto", "openvino"):
        with pytest.raises(ModelFormatError, match="Nonsense is not registered"):
            load(folder, choice, tmp_path / "cache")
    assert not entries(tmp_path / "cache")


def test_an_unwritable_cache_falls_back_to_the_reference(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is wanted")
    opened = load(model_folder(tmp_path / "net", simple()), "auto", tmp_path / "cache")
    assert opened.kind == "mxnet"
