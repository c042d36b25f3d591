"""Files of Keras 1.2.2, against what Keras 1.2.2 answered over TensorFlow and over Theano (make_keras1_h5.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.engines.keras.engine import KerasEngine
from app.errors import ModelFormatError
from app.formats.keras_file import read_h5
from tests.rounding import rounding

TESTDATA = Path(__file__).parent.parent.parent / "testdata"


def facts(name: str) -> tuple[np.ndarray, np.ndarray]:
    recorded = json.loads((TESTDATA / f"{name}.json").read_text())
    return np.array(recorded["pictures"], np.float32), np.array(recorded["answers"])


@pytest.mark.parametrize("name", ["tf_sequential", "tf_graph", "th_sequential", "th_graph"])
def test_a_file_of_keras_1_answers_as_keras_1_does(name: str) -> None:
    pictures, answers = facts(f"keras1_{name}")
    assert np.ptp(answers, axis=0).max() > 1e-2
    engine = KerasEngine.load(TESTDATA / f"keras1_{name}.h5")
    assert engine.predict(pictures) == pytest.approx(answers, abs=rounding(layers=10))


def test_weights_alone_are_loaded_with_the_architecture_beside_them(tmp_path: Path) -> None:
    pictures, answers = facts("keras1_tf_sequential")
    shutil.copy(TESTDATA / "keras1_tf_sequential_weights.h5", tmp_path / "net.h5")
    with pytest.raises(ModelFormatError, match=r"net\.h5 .* model\.json"):
        KerasEngine.load(tmp_path / "net.h5")
    shutil.copy(TESTDATA / "keras1_tf_sequential_weights_model.json", tmp_path / "model.json")
    assert KerasEngine.load(tmp_path / "net.h5").predict(pictures) == pytest.approx(answers, abs=rounding(layers=10))


def test_the_backend_is_guessed_unless_the_file_states_it(tmp_path: Path) -> None:
    shutil.copy(TESTDATA / "keras1_th_sequential.h5", tmp_path / "net.h5")
    guessed = read_h5(tmp_path / "net.h5")
    assert (guessed.theano, guessed.guessed) == (True, True)
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        file["model_weights"].attrs["backend"] = "tensorflow"
    weights_file = read_h5(tmp_path / "net.h5")
    assert (weights_file.theano, weights_file.guessed) == (False, False)
    kernel, turned = weights_file.weights[0][1][0], guessed.weights[0][1][0]
    assert np.array_equal(kernel[::-1, ::-1], turned)
