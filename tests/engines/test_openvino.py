from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.openvino import LONG_MILLISECONDS, OpenvinoEngine
from app.errors import ModelFormatError
from app.settings import ROOT
from app.utils.openvino_runtime import import_openvino

DRAW = np.random.default_rng(7)
KERNEL = DRAW.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
WEIGHT = DRAW.normal(0, 0.3, (144, 5)).astype(np.float32)


def forward(batch: Any) -> Any:
    """Compute convolution, ReLU and a layer, by their definitions."""
    windows = np.lib.stride_tricks.sliding_window_view(batch.astype(np.float64), (3, 3), axis=(2, 3))
    maps = np.maximum(np.einsum("nchwij,fcij->nfhw", windows, KERNEL), 0)
    return maps.reshape(len(batch), -1) @ WEIGHT


def model() -> Any:
    ops = import_openvino().opset13
    data = ops.parameter([1, 3, 8, 8], np.float32)
    maps = ops.relu(ops.convolution(data, ops.constant(KERNEL), [1, 1], [0, 0], [0, 0], [1, 1]))
    row = ops.reshape(maps, ops.constant(np.array([1, 144])), special_zero=False)
    return import_openvino().Model([ops.matmul(row, ops.constant(WEIGHT), False, False)], [data])


@pytest.fixture(params=[0.0, LONG_MILLISECONDS], ids=["short", "long"])
def engine(request: pytest.FixtureRequest) -> OpenvinoEngine:
    return OpenvinoEngine(model(), request.param)


def pictures(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 33])
def test_every_batch_matches_the_formula(engine: OpenvinoEngine, count: int) -> None:
    found = engine.predict(pictures(count))
    assert found.dtype == np.float32 and found.shape == (count, 5)
    assert found == pytest.approx(forward(pictures(count)), abs=1e-5)


def test_a_row_gives_the_same_result_alone_and_in_a_batch(engine: OpenvinoEngine) -> None:
    batch = pictures(9)
    alone = np.concatenate([engine.predict(batch[number : number + 1]) for number in range(9)])
    assert engine.predict(batch) == pytest.approx(alone, abs=1e-6)


def test_many_threads_get_the_same_results_as_one(engine: OpenvinoEngine) -> None:
    batches = [pictures(1 + number % 4, seed=number) for number in range(120)]
    alone = [engine.predict(batch) for batch in batches]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(engine.predict, batches))
    for item, other in zip(alone, together, strict=True):
        assert item == pytest.approx(other, abs=1e-6)


def test_a_result_is_not_overwritten_by_the_next(engine: OpenvinoEngine) -> None:
    first = engine.predict(pictures(1, seed=1))
    before = first.copy()
    engine.predict(pictures(1, seed=2))
    assert np.array_equal(first, before)


def test_a_batch_that_is_not_contiguous_or_not_float32_is_accepted(engine: OpenvinoEngine) -> None:
    batch = pictures(2).transpose(0, 2, 3, 1).copy().astype(np.float64).transpose(0, 3, 1, 2)
    assert engine.predict(batch) == pytest.approx(forward(batch), abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (3, 8, 8), (0, 3, 8, 8)])
def test_a_batch_of_another_shape_is_refused(engine: OpenvinoEngine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        engine.predict(np.zeros(shape, np.float32))


def test_a_closed_engine_does_not_predict(engine: OpenvinoEngine) -> None:
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.predict(pictures(1))


def sets_ones_at_the_places_of_its_input() -> Any:
    """Return a network (1, 2) -> (1, 4) that fails while it computes if a position is not below 4."""
    ops = import_openvino().opset13
    data = ops.parameter([1, 2], np.float32)
    places = ops.convert(ops.squeeze(data, ops.constant(np.array([0]))), "i64")
    zeros, ones = (ops.constant(array) for array in (np.zeros((1, 4), np.float32), np.ones((1, 2), np.float32)))
    return import_openvino().Model([ops.scatter_update(zeros, places, ones, ops.constant(np.array(1)))], [data])


@pytest.mark.parametrize("milliseconds", [None, 0.0, 1000.0])  # streams of all cores, of one thread, one of all cores
def test_a_batch_that_openvino_cannot_compute_is_reported_in_one_line(milliseconds: float | None) -> None:
    engine = OpenvinoEngine(sets_ones_at_the_places_of_its_input(), milliseconds)
    for rows in (1, 2):
        with pytest.raises(ModelFormatError, match="OpenVINO cannot compute this network") as caught:
            engine.predict(np.full((rows, 2), 7, np.float32))
        assert "\n" not in str(caught.value)
    assert engine.predict(np.array([[0, 2]], np.float32)).tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("starts", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_the_first_threads_do_not_wait_for_each_other(starts: int) -> None:
    """Without the engine's own first request a quarter of these processes hang."""
    code = """
import sys, threading
sys.setswitchinterval(1e-6)
import numpy
from app.engines.openvino import OpenvinoEngine
from app.utils.openvino_runtime import import_openvino
ops = import_openvino().opset13
data = ops.parameter([1, 3], numpy.float32)  # no constants: these would make the tables, too
engine = OpenvinoEngine(import_openvino().Model([ops.relu(data)], [data]), 0.0)
row, start = numpy.ones((1, 3), numpy.float32), threading.Barrier(16)
threads = [threading.Thread(target=lambda: (start.wait(), engine.predict(row))) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(starts)]
    try:
        assert [process.wait(timeout=60) for process in started] == [0] * starts
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_import_writes_nothing_into_the_home_and_sends_no_telemetry(tmp_path: Path) -> None:
    code = "import sys; from app.utils.openvino_runtime import core; core(); print(sys.modules['openvino_telemetry'])"
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("None", 0), done.stderr
    assert not list(tmp_path.iterdir())
