from __future__ import annotations

import numpy as np
import pytest

from app.engines.keras.engine import KerasEngine
from app.engines.mxnet.engine import MxnetEngine
from app.formats.signature import read_signature
from app.settings import ROOT

SMILE = ROOT / "models" / "smile"


def test_both_files_of_the_smile_model_give_the_same_numbers() -> None:
    signature = read_signature(SMILE / "signature.json")
    first = signature.inputs[0]
    checkpoint = MxnetEngine.load(SMILE / "smile-symbol.json", SMILE / "smile-0000.params", first.name, first.shape)
    keras = KerasEngine.load(SMILE / "smile.h5")
    batch = np.random.default_rng(0).random((32, *first.shape[1:]), dtype=np.float32)
    expected = keras.predict(batch)
    assert np.ptp(expected[:, 1]) > 0.01  # the inputs do make a difference
    assert checkpoint.predict(batch) == pytest.approx(expected, abs=1e-5)
    assert first.name == "/conv2d_1_input1"  # as Keras-MXNet names it, and as the tutorials' curl lines call it
