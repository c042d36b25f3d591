from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest

from app.errors import ModelFormatError
from app.formats.signature import SCHEMA, read_signature, write_signature
from app.settings import ROOT
from app.types import Postprocess, Preprocess, Signature, TensorSpec

DOCUMENT = (ROOT / "docs" / "model-folder.md").read_text(encoding="utf-8")
INPUTS = [{"data_name": "data", "data_shape": [0, 3, 224, 224]}]


def write(folder: Path, document: Any) -> Path:
    path = folder / "signature.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_signature_of_mms_is_read_as_for_its_vision_template(tmp_path: Path) -> None:
    signature = read_signature(write(tmp_path, {"inputs": INPUTS, "input_type": "image/jpeg"}))
    assert signature.inputs == (TensorSpec("data", (0, 3, 224, 224)),)
    # raw RGB pixels, stretched with OpenCV's bicubic, five classes
    assert (signature.preprocess.color, signature.preprocess.scale, signature.preprocess.mean) == ("rgb", 1.0, (0.0,))
    assert (signature.preprocess.resize, signature.preprocess.interpolation) == ("stretch", "bicubic")
    assert not signature.preprocess.antialias
    assert signature.postprocess == Postprocess("none", 5)


def test_our_two_extra_objects_are_read(tmp_path: Path) -> None:
    document = {
        "inputs": INPUTS,
        "preprocess": {"color": "bgr", "mean": [104, 117, 123.5], "layout": "NHWC", "faces": True},
        "postprocess": {"activation": "softmax", "top": 2},
    }
    signature = read_signature(write(tmp_path, document))
    assert signature.preprocess == Preprocess(color="bgr", mean=(104.0, 117.0, 123.5), layout="NHWC", faces=True)
    assert signature.postprocess == Postprocess("softmax", 2)


def test_a_written_signature_is_read_back(tmp_path: Path) -> None:
    signature = Signature(
        (TensorSpec("/conv2d_1_input1", (0, 1, 32, 32)),),
        (TensorSpec("softmax", (0, 2)),),
        Preprocess(color="grey", scale=1 / 255, std=(0.5,)),
        Postprocess("sigmoid", 0),
    )
    write_signature(signature, tmp_path / "signature.json")
    assert read_signature(tmp_path / "signature.json") == signature


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "cannot be read"),
        ([], "it must be a JSON object, not []"),
        ({}, "inputs is missing"),
        ({"inputs": []}, "inputs must be a list of at least one tensor, not []"),
        (
            {"inputs": [{"data_name": "data"}]},
            "inputs[0] must be an object with data_name and data_shape, not {'data_name': 'data'}",
        ),
        (
            {"inputs": [{"data_name": "data", "data_shape": [0, -3]}]},
            "inputs[0].data_shape[1] must be a whole number from 0, not -3",
        ),
        ({"inputs": [7]}, "inputs[0] must be an object with data_name and data_shape, not 7"),
        ({"inputs": INPUTS, "outputs": [7]}, "outputs[0] must be an object with data_name and data_shape, not 7"),
        ({"inputs": INPUTS, "preprocess": {"colour": "rgb"}}, "preprocess has no field 'colour'; it has color, resize"),
        ({"inputs": INPUTS, "preprocess": {"color": "pink"}}, "preprocess.color must be rgb, bgr or grey, not 'pink'"),
        (
            {"inputs": INPUTS, "preprocess": {"color": ["rgb"]}},
            "preprocess.color must be rgb, bgr or grey, not ['rgb']",
        ),
        (
            {"inputs": INPUTS, "preprocess": {"mean": "0"}},
            "preprocess.mean must be a list of one number, or of one for each channel, not '0'",
        ),
        ({"inputs": INPUTS, "preprocess": {"std": [0]}}, "preprocess.std[0] must be a number other than 0, not 0"),
        ({"inputs": INPUTS, "preprocess": {"faces": 1}}, "preprocess.faces must be true or false, not 1"),
        ({"inputs": INPUTS, "preprocess": {"scale": True}}, "preprocess.scale must be a number from -1e30 to 1e30"),
        (
            {"inputs": INPUTS, "postprocess": {"top": -1}},
            "postprocess.top must be a whole number from 0 to 2147483647, not -1",
        ),
        ({"inputs": INPUTS, "postprocess": "softmax"}, "postprocess must be an object, not 'softmax'"),
    ],
)
def test_a_broken_signature_is_refused_with_the_fault(tmp_path: Path, document: Any, reason: str) -> None:
    path = write(tmp_path, document)
    with pytest.raises(ModelFormatError) as caught:
        read_signature(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_the_schema_is_valid_and_has_every_field_with_its_values_and_default() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    for name, kind in (("preprocess", Preprocess), ("postprocess", Postprocess)):
        properties = schema["properties"][name]["properties"]
        assert list(properties) == [field.name for field in fields(kind)]
        for field in fields(kind):
            stated = properties[field.name]
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert stated.get("default", default) == default, field.name
            assert stated.get("enum", []) == list(
                get_args(get_type_hints(kind)[field.name]) if "enum" in stated else ()
            )


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*/signature.json")), ids=lambda path: path.parent.name)
def test_another_reader_of_the_schema_accepts_the_models_that_are_included(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("part", ["preprocess", "postprocess"])
def test_the_document_has_every_field_as_the_schema_has_it(part: str) -> None:
    schema = json.loads(SCHEMA.read_text())
    for name, field in schema["properties"][part]["properties"].items():
        values = {**schema["definitions"].get(field.get("$ref", "").rpartition("/")[2], {}), **field}["title"]
        row = f"| `{name}` | {values} | {field['description']} | {default_text(field)} |"
        assert row in DOCUMENT, row


def test_the_example_in_the_document_can_be_read(tmp_path: Path) -> None:
    example = DOCUMENT.split("```json")[1].split("```")[0]
    assert read_signature(write(tmp_path, example)).preprocess.shorter_side == 256


def default_text(field: dict[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "see left"
