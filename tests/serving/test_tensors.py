"""Networks with requests that are tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import BadInput, BadParameter, TooManyFiles
from app.formats.folder import open_model_folder
from app.serving.model import Model, open_model
from app.serving.tensors import as_float32, best_columns, check_count, check_rows, compute, row_shape
from app.settings import ROOT
from app.types import TensorSpec
from tests.engines.networks import dense, model_folder, mx, pictures, random_params

SMILE = ROOT / "models" / "smile"


@pytest.fixture(scope="module")
def smile() -> Model:
    return open_model(open_model_folder(SMILE), "mxnet")


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 255], np.uint8),
        np.array([-32768, 32767], np.int16),
        np.array([-(2**24), 2**24], np.int64),
        np.array([2**24], np.uint64),
        np.array([True, False]),
        np.array([65504, -6e-8], np.float16),  # its largest and its smallest
        np.array([0.5, 2.0**127, -(2.0**-149)], np.float64),
        np.array([0.1, -3.4e38], np.float32),
    ],
)
def test_numbers_that_float32_can_represent_are_unchanged(values: Any) -> None:
    converted = as_float32(values)
    assert converted.dtype == np.float32
    assert [float(item) for item in converted] == [float(value) for value in values]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, 0.1], np.float64), "0.1 at [1]"),
        (np.array([[0, 2**24 + 1]], np.int64), "16777217 at [0, 1]"),
        (np.array([2**64 - 1], np.uint64), "18446744073709551615"),
        (np.array([np.nan], np.float32), "nan"),
        (np.array([np.inf], np.float16), "inf"),
        (np.array([1e300]), "1e+300"),
    ],
)
def test_other_values_are_refused_with_their_position(values: Any, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        as_float32(values)


def test_the_input_of_the_network_has_no_open_sizes(smile: Model) -> None:
    assert row_shape(smile) == (1, 64, 64)
    check_rows(smile, (3, 1, 64, 64), 3)
    with pytest.raises(BadInput, match=r"\[-1, 1, 64, 64\]"):
        check_rows(smile, (3, 64, 64, 1), 3)
    with pytest.raises(TooManyFiles, match="4 pictures"):
        check_rows(smile, (4, 1, 64, 64), 3)


def test_the_output_has_its_name_in_the_signature(smile: Model) -> None:
    assert smile.output == TensorSpec("softmax", (0, 2))


def test_linear_outputs_match_the_formula_and_overflow_is_an_error(tmp_path: Path) -> None:
    symbol = dense(mx.sym.Flatten(mx.sym.var("data")))
    linear = open_model(model_folder(tmp_path / "linear", symbol), "mxnet")
    weights = random_params(symbol)
    rows = pictures(2)
    expected = rows.reshape(2, -1) @ weights["arg:fc_weight"].T + weights["arg:fc_bias"]
    assert np.abs(compute(linear, rows) - expected).max() < 1e-5
    with pytest.raises(BadInput, match="GET /predict/linear"):
        compute(linear, np.full_like(rows, 3e38))


def test_equal_columns_keep_their_order() -> None:
    rows = np.array([[0.1, 0.4, 0.4, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32)
    assert best_columns(rows, 3).tolist() == [[1, 2, 0], [0, 1, 2]]
    assert best_columns(rows, 9).shape == (2, 4)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
def test_a_count_must_be_an_integer(value: Any) -> None:
    with pytest.raises(BadParameter):
        check_count("top", value)
