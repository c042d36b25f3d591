"""``signature.json``: MMS's description of a model's tensors, with our ``preprocess`` and ``postprocess`` beside it.

Format: ``inputs`` and ``outputs`` are lists of ``{"data_name", "data_shape"}``; 0 in a shape stands for any size. Our
two objects have the fields of :class:`app.types.Preprocess` and :class:`app.types.Postprocess`. A missing field follows
from the input if possible: one channel means grey pictures, and Keras-MXNet's names for an input mean pixels of 0-1.
Otherwise it has its default, which is the behaviour of MMS's vision template.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from app.errors import ModelFormatError
from app.types import Layout, Postprocess, Preprocess, Signature, TensorSpec
from app.utils.json import read_json

FILE_NAME = "signature.json"
MAX_VALUES = 2**26
"""The largest number of values of one picture or one answer: a quarter of a gigabyte."""
LARGEST_COUNT = 2**31 - 1
LARGEST_NUMBER = 1e30
"""The largest scale, mean and deviation of pixels, because the arithmetic is in 32 bits."""

PARTS = frozenset(("preprocess", "postprocess", "outputs"))
"""Parts of the file that are inferred if they are missing."""
KERAS_INPUT = re.compile(r"/.*input.*\d+")
"""Keras-MXNet's names of inputs, such as ``/conv2d_1_input1``."""
CHANNELS = (1, 3)

T = TypeVar("T", Preprocess, Postprocess)


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

    :param path: the document's file, for the error.
    :raises ModelFormatError: as :func:`read_signature`.
    """
    if not isinstance(document, dict):
        raise ModelFormatError(f"{path} must hold a JSON object, not {type(document).__name__}")
    inputs = _tensors(document, "inputs", path)
    return Signature(
        inputs=inputs,
        outputs=_tensors(document, "outputs", path) if "outputs" in document else (),
        preprocess=_options(Preprocess, document, "preprocess", path, _preprocess_of(inputs[0])),
        postprocess=_options(Postprocess, document, "postprocess", path),
    )


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


def _tensors(document: dict[str, Any], key: str, path: Path) -> tuple[TensorSpec, ...]:
    listed = document.get(key)
    if not isinstance(listed, list) or not listed:
        raise ModelFormatError(f"{path}: {key!r} must be a list of at least one tensor")
    return tuple(_tensor(item, key, path) for item in listed)


def _tensor(item: Any, key: str, path: Path) -> TensorSpec:
    name, shape = (item.get("data_name"), item.get("data_shape")) if isinstance(item, dict) else (None, None)
    sizes_valid = isinstance(shape, list) and shape and all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(name, str) or not sizes_valid:
        raise ModelFormatError(
            f"{path}: each of {key!r} needs a 'data_name' and a 'data_shape' of whole numbers, not {item!r}"
        )
    if math.prod(max(1, size) for size in shape) > MAX_VALUES:  # type: ignore[union-attr]
        raise ModelFormatError(f"{path}: {name} has the shape {shape}; at most {MAX_VALUES:,} values are possible")
    return TensorSpec(name, tuple(shape))  # type: ignore[arg-type]


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


def _options(kind: type[T], document: dict[str, Any], key: str, path: Path, default: T | None = None) -> T:
    options = document.get(key, {})
    if not isinstance(options, dict):
        raise ModelFormatError(f"{path}: {key!r} must be an object")
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in names:
            raise ModelFormatError(f"{path}: {key!r} has no field {name!r}; it has {', '.join(names)}")
        values[name] = _convert(value, hints[name], f"{path}: {key}.{name}")
    if {"scale", "mean", "std"} & values.keys():
        values = {"scale": 1.0, **values}  # if the file has one of the three, the inferred scale does not apply
    made = replace(default, **values) if default is not None else kind(**values)
    if isinstance(made, Preprocess) and 0.0 in made.std:
        raise ModelFormatError(f"{path}: {key}.std must not hold 0")
    return made


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return ``value`` converted to its field's declared type."""
    origin = get_origin(hint)
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise ModelFormatError(f"{where} must be one of {', '.join(get_args(hint))}, not {value!r}")
    if origin is tuple:
        if isinstance(value, list) and value and all(_is_number(item) for item in value):
            return tuple(float(item) for item in value)
        raise ModelFormatError(f"{where} must be a list of numbers, not {value!r}")
    if hint is float and _is_number(value):
        return float(value)
    if hint is int and type(value) is int and 0 <= value <= LARGEST_COUNT:
        return value
    if hint is bool and type(value) is bool:
        return value
    raise ModelFormatError(f"{where} must be of type {_type_name(hint)}, not {value!r}")


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number in range: Python's JSON has NaN, and integers of any size."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) <= LARGEST_NUMBER


def _type_name(hint: Any) -> str:
    return {int: "whole number (0 or more)", float: "number", bool: "true/false"}.get(hint, str(hint))
