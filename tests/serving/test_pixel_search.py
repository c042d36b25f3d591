"""The search for a network's preprocessing, with networks whose right preprocessing is known by their formula."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.engines.openvino import OpenvinoEngine
from app.errors import DataError
from app.formats.pixels import CAFFE, RAW, SIGNED, TORCH, UNIT
from app.serving.pixel_search import PixelSearch, TrialPicture, lines_of, search, verdict
from app.serving.pixel_trials import arithmetic, arithmetics, describe, in_order, is_worse, resizings
from app.settings import PictureLimits
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from app.utils.openvino_runtime import import_openvino

SIDE = 24
BAND = (0.3, 0.7)
"""Weighted means, 0-1, of the pictures of the class 1; darker and brighter ones are of the class 0."""


def network(weights: tuple[float, float, float]) -> OpenvinoEngine:
    """Return a network that decides whether the weighted mean of the channels, 0-1 each, is in the band."""
    arrays = {
        "dense": np.float32(weights).reshape(3, 1),
        "middle": np.float32([-sum(BAND) / 2]),
        "slope": np.float32([-30]),
        "bias": np.float32([30 * (BAND[1] - BAND[0]) / 2]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["means"]),
            helper.make_node("Flatten", ["means"], ["row"]),
            helper.make_node("Gemm", ["row", "dense", "middle"], ["mean"]),
            helper.make_node("Abs", ["mean"], ["distance"]),
            helper.make_node("Mul", ["distance", "slope"], ["steep"]),
            helper.make_node("Add", ["steep", "bias"], ["y"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return OpenvinoEngine(import_openvino().convert_model(io.BytesIO(model.SerializeToString())))


def pictures(weights: tuple[float, float, float], count: int = 60, labelled: bool = True) -> list[TrialPicture]:
    """Return pictures of one colour each, and the class that the formula gives their values of 0-1."""
    draw, made = np.random.default_rng(3), []
    for number in range(count):
        color = draw.uniform(0, 1, 3)
        file = io.BytesIO()
        Image.fromarray(np.full((30, 40, 3), np.rint(color * 255), np.uint8)).save(file, "PNG")
        truth = int(BAND[0] < color @ np.array(weights) < BAND[1]) if labelled else None
        made.append(TrialPicture(f"{number}.png", lambda file=file: file.getvalue(), truth))
    return made


def found(
    weights: tuple[float, float, float], inferred: Preprocess, labelled: bool = True, count: int = 60
) -> PixelSearch:
    signature = Signature(
        (TensorSpec("x", (0, 3, SIDE, SIDE)),), (TensorSpec("y", (0, 1)),), inferred, Postprocess("sigmoid")
    )
    return search(network(weights), signature, pictures(weights, count, labelled), PictureLimits())


@pytest.mark.parametrize("inferred", [RAW, TORCH, CAFFE, SIGNED])
def test_labelled_pictures_determine_range_and_channel_order(inferred: Preprocess) -> None:
    result = found((0.9, 0.1, 0.0), inferred)
    assert arithmetic(result.chosen.preprocess) == arithmetic(UNIT)
    assert result.chosen.score == 1.0
    assert result.chosen.preprocess.resize == inferred.resize  # pictures of one colour do not tell the resizing
    assert "The resizing cannot be told apart" in verdict(result)
    other = result.runner_up
    assert other is not None and other.score < 0.95 and "points of accuracy" in verdict(result)
    assert sum("<- chosen" in line for line in lines_of(result)) == 1


def test_channel_orders_without_a_difference_are_not_distinguished() -> None:
    result = found((0.0, 1.0, 0.0), UNIT)
    assert arithmetic(result.chosen.preprocess) == arithmetic(UNIT)
    assert "The values of the pixels cannot be told apart from bgr 0-1" in verdict(result)
    assert "take more pictures" in verdict(result)
    assert "even by 200 pictures" in verdict(found((0.0, 1.0, 0.0), UNIT, count=200))


def test_constant_confident_answers_do_not_count_without_labels() -> None:
    result = found((0.9, 0.1, 0.0), RAW, labelled=False)
    assert result.classes == 0
    assert arithmetic(result.chosen.preprocess) != arithmetic(RAW)
    raw = next(trial for trial in result.trials if arithmetic(trial.preprocess) == arithmetic(RAW))
    assert raw.score < 0.3 < result.chosen.score  # sure, but of the same class for nearly every picture
    assert raw.confidence > 0.95
    assert result.runner_up is not None


def test_pictures_of_other_classes_are_no_better_than_guessing() -> None:
    weights = (0.9, 0.1, 0.0)
    draw = np.random.default_rng(0)
    mixed = [replace(picture, truth=int(draw.integers(0, 2))) for picture in pictures(weights)]
    signature = Signature(
        (TensorSpec("x", (0, 3, SIDE, SIDE)),), (TensorSpec("y", (0, 1)),), UNIT, Postprocess("sigmoid")
    )
    result = search(network(weights), signature, mixed, PictureLimits())
    assert "no better than guessing" in verdict(result)


def test_unreadable_pictures_are_skipped_and_too_few_are_refused() -> None:
    weights = (0.9, 0.1, 0.0)
    broken = TrialPicture("broken.png", lambda: b"\x89PNG\r\n\x1a\n", 1)
    signature = Signature(
        (TensorSpec("x", (0, 3, SIDE, SIDE)),), (TensorSpec("y", (0, 1)),), UNIT, Postprocess("sigmoid")
    )
    result = search(network(weights), signature, [*pictures(weights, 20), broken], PictureLimits())
    assert result.pictures == 20
    with pytest.raises(DataError, match="3 pictures can be read"):
        search(network(weights), signature, [*pictures(weights, 3), broken], PictureLimits())


def test_the_means_of_caffe_follow_their_channels_in_either_order() -> None:
    assert in_order(CAFFE, "rgb").mean == CAFFE.mean[::-1] == (123.68, 116.779, 103.939)
    assert describe(CAFFE).startswith("bgr 0-255 less Caffe's mean; ")
    assert describe(in_order(CAFFE, "rgb")).startswith("rgb 0-255 less Caffe's mean; ")


def test_every_candidate_is_tried_once_and_a_grey_input_gets_grey_candidates() -> None:
    for inferred in (RAW, TORCH, replace(UNIT, color="grey")):
        values = [arithmetic(item) for item in arithmetics(inferred)]
        assert values[0] == arithmetic(inferred) and len(set(values)) == len(values)
        assert all((item.color == "grey") == (inferred.color == "grey") for item in arithmetics(inferred))
        ways = resizings(inferred, (0, 3, SIDE, SIDE) if inferred.color != "grey" else (0, 1, SIDE, SIDE))
        assert ways[0] == inferred and len(set(ways)) == len(ways) <= 13


def test_a_candidate_is_worse_only_if_the_difference_exceeds_chance() -> None:
    result = found((0.9, 0.1, 0.0), UNIT)
    best = result.chosen
    right = best.right.copy()
    right[:2] = False  # two of sixty may be chance
    assert not is_worse(best, replace(best, right=right))
    right[:8] = False  # 2 * (1/2)^8 < 0.05
    assert is_worse(best, replace(best, right=right))
