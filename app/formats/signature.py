"""``signature.json``: MMS's description of a model's tensors, with our ``preprocess`` and ``postprocess`` beside it.

``signature.schema.json`` states the fields and their values. Our two objects have the fields of
:class:`app.types.Preprocess` and :class:`app.types.Postprocess`. A missing field follows from the input if possible:
one channel means grey pictures, and Keras-MXNet's names for an input mean pixels of 0-1. Otherwise it has its default,
which is the behaviour of MMS's vision template.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
from fastjsonschema import JsonSchemaValueException

from app.errors import ModelFormatError
from app.types import Layout, Postprocess, Preprocess, Signature, TensorSpec
from app.utils.json import read_json

FILE_NAME = "signature.json"
MAX_VALUES = 2**26
"""The largest number of values of one picture or one answer: a quarter of a gigabyte."""
SCHEMA = Path(__file__).with_name("signature.schema.json")
"""The JSON schema, whose titles state the allowed values. Its largest number is what arithmetic in 32 bits bears."""

PARTS = frozenset(("preprocess", "postprocess", "outputs"))
"""Parts of the file that are inferred if they are missing."""
KERAS_INPUT = re.compile(r"/.*input.*\d+")
"""Keras-MXNet's names of inputs, such as ``/conv2d_1_input1``."""
CHANNELS = (1, 3)
TYPES: dict[str, Callable[[Any], Any]] = {
    "scale": float,
    "mean": lambda values: tuple(map(float, values)),
    "std": lambda values: tuple(map(float, values)),
    "shorter_side": int,
    "top": int,
}
"""Conversions of JSON's numbers and lists, since 1 is also a number with a fraction and 1.0 also a whole number."""


def read_signature(path: Path) -> Signature:
    """Read a ``signature.json``.

    :raises ModelFormatError: if the file is not JSON, lacks a part, or holds an impossible value.
    """
    return read_stated(path)[0]


def read_stated(path: Path) -> tuple[Signature, frozenset[str]]:
    """Read a ``signature.json``, and return it with the names of the :data:`PARTS` that it has.

    :raises ModelFormatError: as :func:`read_signature`.
    """
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from None
    return signature_of(document, path), frozenset(PARTS & document.keys())


def signature_of(document: Any, path: Path) -> Signature:
    """Return the signature of a parsed JSON document.

    :raises ModelFormatError: as :func:`read_signature`.
    """
    try:
        _validator()(document)
    except JsonSchemaValueException as error:
        raise ModelFormatError(f"{path}: {_reason(error)}. docs/model-folder.md has all fields") from None
    inputs, outputs = (_tensors(document.get(key, ()), path) for key in ("inputs", "outputs"))
    options = _converted(document.get("preprocess", {}))
    if {"scale", "mean", "std"} & options.keys():
        options = {"scale": 1.0, **options}  # if the file has one of the three, the inferred scale does not apply
    preprocess = replace(_preprocess_of(inputs[0]), **options)
    if any(map(math.isnan, (preprocess.scale, *preprocess.mean, *preprocess.std))):  # Python's JSON has NaN
        raise ModelFormatError(f"{path}: preprocess.scale, mean and std must be numbers, not NaN")
    return Signature(inputs, outputs, preprocess, Postprocess(**_converted(document.get("postprocess", {}))))


def write_signature(
    signature: Signature, path: Path, parts: frozenset[str] = PARTS, inferred: Mapping[str, Any] | None = None
) -> None:
    """Write a ``signature.json`` that MMS reads too, and that :func:`read_signature` reads back unchanged.

    :param parts: the written parts, of :data:`PARTS`.
    :param inferred: for the reader of the file: how each part was inferred.
    """
    document = {key: value for key, value in document_of(signature).items() if key not in PARTS - parts}
    document |= {"inferred": dict(inferred)} if inferred else {}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def document_of(signature: Signature) -> dict[str, Any]:
    """Return a signature as the JSON object of ``signature.json``."""
    outputs = {
        "outputs": [{"data_name": t.name, "data_shape": list(t.shape)} for t in signature.outputs],
        "output_type": "application/json",
    }
    return {
        "inputs": [{"data_name": t.name, "data_shape": list(t.shape)} for t in signature.inputs],
        "input_type": "image/jpeg",
        **(outputs if signature.outputs else {}),
        "preprocess": asdict(signature.preprocess),
        "postprocess": asdict(signature.postprocess),
    }


@cache
def _validator() -> Callable[[Any], Any]:
    """Return the compiled schema, a function that raises an error for an invalid document."""
    validate: Callable[[Any], Any] = fastjsonschema.compile(read_json(SCHEMA), use_default=False)
    return validate


def _reason(error: JsonSchemaValueException) -> str:
    """Return what is wrong with a document, in the words of the schema's titles."""
    field = error.name.removeprefix("data").removeprefix(".")
    if error.rule == "additionalProperties":
        known = error.definition["properties"]
        return f"{field} has no field {min(error.value.keys() - known)!r}; it has {', '.join(known)}"
    if error.rule == "required" and not field:
        return "inputs is missing"
    return f"{field or 'it'} must be {error.definition['title']}, not {error.value!r:.80}"


def _tensors(items: Iterable[dict[str, Any]], path: Path) -> tuple[TensorSpec, ...]:
    tensors = tuple(TensorSpec(item["data_name"], tuple(map(int, item["data_shape"]))) for item in items)
    for tensor in tensors:
        if math.prod(max(1, size) for size in tensor.shape) > MAX_VALUES:
            shape = list(tensor.shape)
            raise ModelFormatError(
                f"{path}: {tensor.name} has the shape {shape!s:.80}; at most {MAX_VALUES:,} values are possible"
            )
    return tensors


def _converted(options: dict[str, Any]) -> dict[str, Any]:
    """Return valid options with JSON's lists and numbers as the types of their fields."""
    return {name: TYPES[name](value) if name in TYPES else value for name, value in options.items()}


def layout_of(shape: tuple[int, ...]) -> Layout:
    """Return the axes of a picture in a tensor with a batch axis: channels last only if they cannot be first."""
    return "NHWC" if len(shape) == 4 and shape[3] in CHANNELS and shape[1] not in CHANNELS else "NCHW"


def is_grey(shape: tuple[int, ...]) -> bool:
    """Return whether a tensor with a batch axis holds one channel, or pictures without an axis for channels."""
    return len(shape) == 3 or (len(shape) == 4 and shape[layout_of(shape).index("C")] == 1)


def _preprocess_of(tensor: TensorSpec) -> Preprocess:
    """Return the preprocessing that follows from an input's name and shape."""
    return Preprocess(
        color="grey" if is_grey(tensor.shape) else "rgb",
        layout=layout_of(tensor.shape),
        scale=1 / 255 if KERAS_INPUT.fullmatch(tensor.name) else 1.0,
    )
