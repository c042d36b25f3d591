"""Files for Keras 3, which answer as the Keras that saved the original."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.engines.keras.engine import KerasEngine
from app.engines.keras.keras3_writer import write_keras3
from app.errors import ModelFormatError
from app.formats.keras_file import read_h5
from app.settings import ROOT

TESTDATA = ROOT / "tests" / "testdata"
WRITTEN = (
    *("keras1_tf_graph.h5", "keras1_tf_sequential.h5", "keras_branches.h5", "keras_nested.h5", "tf_keras_newer.h5"),
    *("tf215_entrance.h5", "tf215_lines.h5", "tf215_nested_once.h5", "tf215_nested_three.h5", "tf215_open_size.h5"),
    *("tf215_options.h5", "tf215_recurrent.h5", "tf215_shared.h5", "tf215_teachable.h5", "tf23_teachable.h5"),
    "keras315_legacy_options.h5",
)


def facts(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures beside a file, as Dimple takes them, and what the Keras that saved it answered."""
    document = json.loads((TESTDATA / name).with_suffix(".json").read_text())
    pictures = np.array(document["pictures"], np.float32)
    answers = np.array(document["answers"], np.float64).reshape(len(pictures), -1)
    return pictures[..., np.newaxis] if pictures.ndim == 3 else pictures, answers


def written(name: str, folder: Path) -> Path:
    path = folder / f"{name}.keras"
    write_keras3(read_h5(TESTDATA / name), path)
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_file_answers_as_the_keras_that_saved_the_original(tmp_path: Path, name: str) -> None:
    pictures, expected = facts(name)
    found = KerasEngine.load(written(name, tmp_path), (0, *pictures.shape[1:])).predict(pictures)
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ["tf215_nested_three.h5", "tf215_shared.h5", "keras1_tf_graph.h5"])
def test_a_round_trip_changes_no_weight_and_no_byte(tmp_path: Path, name: str) -> None:
    source, first = read_h5(TESTDATA / name), written(name, tmp_path)
    again = read_h5(first)
    assert [arrays for _name, arrays in source.weights]
    for (_name, before), (_same, after) in zip(source.weights, again.weights, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    write_keras3(again, tmp_path / "twice.keras")
    assert (tmp_path / "twice.keras").read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf215_operations.h5", "tf.__operators__.getitem is the operation __operators__.getitem of TensorFlow"),
        ("tf23_operations.h5", "strided_slice is the operation TensorFlowOpLayer of TensorFlow"),
    ],
)
def test_a_layer_that_keras_3_lacks_is_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as raised:
        written(name, tmp_path)
    assert "--to onnx" in str(raised.value)
    assert not list(tmp_path.iterdir())


CHECK = """
import sys, keras, numpy
for path in sys.argv[1:]:
    facts = numpy.load(path + ".npz")
    answers = numpy.asarray(keras.models.load_model(path, compile=False).predict(facts["pictures"], verbose=0))
    worst = abs(answers.reshape(facts["answers"].shape) - facts["answers"]).max()
    assert worst < 1e-5 * max(1, abs(facts["answers"]).max()), (path, worst)
    print("opened", path)
"""


@pytest.mark.slow
def test_keras_3_opens_the_files_and_gives_the_same_outputs(tmp_path: Path) -> None:
    venv, files = tmp_path / "venv", []
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    command = [venv / "bin" / "pip", "install", "-q", "keras==3.15.1", "jax==0.10.2", "jaxlib==0.10.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540)
    if done.returncode:
        pytest.skip(f"Keras 3 cannot be installed here: {done.stderr.strip()[-200:]}")
    for name in WRITTEN:
        file = written(name, tmp_path)
        pictures = np.array(json.loads((TESTDATA / name).with_suffix(".json").read_text())["pictures"], np.float32)
        np.savez(f"{file}.npz", pictures=pictures, answers=facts(name)[1])
        files.append(str(file))
    environ = {**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", CHECK, *files], capture_output=True, text=True, env=environ, timeout=540
    )
    assert done.stdout.count("opened") == len(WRITTEN), done.stderr[-2000:]


def test_an_adapted_normalization_in_an_inner_model_subtracts_the_mean_in_the_file() -> None:
    """Keras 3.15 itself ignores these arrays in an ``.h5``; the model answered with them when it was saved."""
    from app.engines.keras.network import build
    from app.engines.mxnet.engine import MxnetEngine
    from app.formats.keras_file import H5Model

    options = {"name": "n", "axis": [-1], "batch_input_shape": [None, 2, 2, 3]}
    adapted = {"class_name": "Normalization", "config": options}
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [adapted]}}
    flat = {"class_name": "Flatten", "config": {"name": "flat"}}
    mean, variance = np.float32([120, 90, 60]), np.float32([400, 900, 1600])
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [inner, flat]}}
    names = (("n/mean", "n/variance", "n/count"),)
    model = H5Model(config, (("inner", (mean, variance, np.int32(0))),), "3.15.1", "tensorflow", weight_names=names)
    pictures = np.random.default_rng(5).uniform(0, 255, (2, 2, 2, 3)).astype(np.float32)
    found = MxnetEngine.of_network(build(model, None, "")[0]).predict(pictures)
    assert found == pytest.approx(((pictures - mean) / np.sqrt(variance)).reshape(2, -1), abs=1e-5)
