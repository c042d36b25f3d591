from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFormatError
from app.formats.signature import read_signature, write_signature
from app.types import Postprocess, Preprocess, Signature, TensorSpec

INPUTS = [{"data_name": "data", "data_shape": [0, 3, 224, 224]}]


def write(folder: Path, document: Any) -> Path:
    path = folder / "signature.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_signature_of_mms_means_its_vision_template(tmp_path: Path) -> None:
    signature = read_signature(write(tmp_path, {"inputs": INPUTS, "input_type": "image/jpeg"}))
    assert signature.inputs == (TensorSpec("data", (0, 3, 224, 224)),)
    # raw RGB pixels, stretched with OpenCV's bicubic, five classes
    assert (signature.preprocess.color, signature.preprocess.scale, signature.preprocess.mean) == ("rgb", 1.0, (0.0,))
    assert (signature.preprocess.resize, signature.preprocess.interpolation) == ("stretch", "bicubic")
    assert not signature.preprocess.antialias
    assert signature.postprocess == Postprocess("none", 5)


def test_our_two_objects_are_read(tmp_path: Path) -> None:
    document = {
        "inputs": INPUTS,
        "preprocess": {"color": "bgr", "mean": [104, 117, 123.5], "layout": "NHWC", "faces": True},
        "postprocess": {"activation": "softmax", "top": 2},
    }
    signature = read_signature(write(tmp_path, document))
    assert signature.preprocess == Preprocess(color="bgr", mean=(104.0, 117.0, 123.5), layout="NHWC", faces=True)
    assert signature.postprocess == Postprocess("softmax", 2)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    signature = Signature(
        (TensorSpec("/conv2d_1_input1", (0, 1, 32, 32)),),
        (TensorSpec("softmax", (0, 2)),),
        Preprocess(color="grey", scale=1 / 255, std=(0.5,)),
        Postprocess("sigmoid", 0),
    )
    write_signature(signature, tmp_path / "signature.json")
    assert read_signature(tmp_path / "signature.json") == signature


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("{", "cannot be read"),
        ([], "JSON object"),
        ({}, "'inputs'"),
        ({"inputs": []}, "'inputs'"),
        ({"inputs": [{"data_name": "data"}]}, "data_shape"),
        ({"inputs": [{"data_name": "data", "data_shape": [0, -3]}]}, "-3"),
        ({"inputs": [7]}, "7"),
        ({"inputs": INPUTS, "preprocess": {"colour": "rgb"}}, "colour"),
        ({"inputs": INPUTS, "preprocess": {"color": "pink"}}, "pink"),
        ({"inputs": INPUTS, "preprocess": {"color": ["rgb"]}}, "rgb"),
        ({"inputs": INPUTS, "preprocess": {"mean": "0"}}, "mean"),
        ({"inputs": INPUTS, "preprocess": {"std": [0]}}, "std"),
        ({"inputs": INPUTS, "preprocess": {"faces": 1}}, "faces"),
        ({"inputs": INPUTS, "postprocess": {"top": -1}}, "top"),
        ({"inputs": INPUTS, "postprocess": "softmax"}, "postprocess"),
    ],
)
def test_a_broken_signature_is_refused_by_what_is_wrong(tmp_path: Path, document: Any, named: str) -> None:
    with pytest.raises(ModelFormatError, match=named):
        read_signature(write(tmp_path, document))
